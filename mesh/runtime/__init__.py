"""Serving in a process: several services at once, signals, drain, and the embedded broker under them."""

from mesh.runtime.broker import embedded
from mesh.runtime.drain import named, serve_until_signal, serving
from mesh.runtime.fleet import Fleet
from mesh.runtime.garbage import spare_what_stays
from mesh.runtime.interrupts import Interrupts

__all__ = ["Fleet", "Interrupts", "embedded", "named", "serve_until_signal", "serving", "spare_what_stays"]
