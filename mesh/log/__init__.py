"""The log protocol: fold, flows, driver, tails. See `docs/delivery.md`."""
