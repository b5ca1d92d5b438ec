"""The worker loop that every service runs its deliveries in, and the crew that serves it."""

from mesh.worker.crew import Crew
from mesh.worker.loop import Held, Worker
from mesh.worker.told import Told

__all__ = ["Crew", "Held", "Told", "Worker"]
