"""Which of the routers does what one of them is enough for: the living one whose name comes first.

Nobody is elected. Each router reads the names that are written down as present and asks those before its own whether
they live; a record alone outlives its router by some seconds. At worst two do the same, which the log allows.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mesh.bus import Bus
from mesh.errors import BusUnavailable, PermissionDenied
from mesh.subjects import Subjects
from schemas.worker import HOLDS, WorkerRequest

ANSWER_S: Final = 1.0
ROUTERS: Final = "router-"


class Duty:
    """Whether this router, `name`, is the one."""

    def __init__(self, bus: Bus, names: Subjects, name: str) -> None:
        self._bus = bus
        self._names = names
        self._name = name

    async def other(self) -> str | None:
        """The router that does it, unless it is this one; raises BusUnavailable."""
        present = sorted(name for name in await self._bus.keys(self._names.workers) if name.startswith(ROUTERS))
        for name in present:
            if name >= self._name:
                break
            if await self.lives(name):
                return name
        return None

    async def lives(self, name: str) -> bool:
        """Whether a router answers; what it is asked does not matter. Who may not ask goes by its record."""
        question = msgspec.json.encode(WorkerRequest(kind=HOLDS))
        try:
            await self._bus.request(self._names.worker(name), question, timeout_s=ANSWER_S)
        except BusUnavailable:
            return False
        except PermissionDenied:
            return await self._bus.fetch(self._names.workers, name) is not None
        return True
