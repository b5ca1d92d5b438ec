"""What is said on the bus: msgspec structs only, no I/O, nothing of `mesh`."""
