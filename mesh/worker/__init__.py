"""The worker loop that every service runs its deliveries in, and the crew that serves it."""

from mesh.worker.condition import Condition
from mesh.worker.crew import Crew
from mesh.worker.loop import Held, Worker

__all__ = ["Condition", "Crew", "Held", "Worker"]
