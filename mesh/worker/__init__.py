"""The worker loop that every service runs its deliveries in."""

from mesh.worker.loop import Held, Worker

__all__ = ["Held", "Worker"]
