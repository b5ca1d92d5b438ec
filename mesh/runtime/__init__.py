"""Serving in a process: several services at once, signals, drain, and the embedded broker under them."""

from mesh.runtime.broker import keep_alive
from mesh.runtime.drain import Reporter, serve_until_signal
from mesh.runtime.fleet import Fleet
from mesh.runtime.interrupts import Interrupts

__all__ = ["Fleet", "Interrupts", "Reporter", "keep_alive", "serve_until_signal"]
