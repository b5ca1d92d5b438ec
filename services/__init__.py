"""Who decides: router and executor, each an independent process over `mesh`."""
