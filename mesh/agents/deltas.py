"""Sends text ahead of the log, as it comes.

A piece goes out at once unless the connection still has unsent bytes; what arrives meanwhile is joined into the next
one. Deltas are a cache: one that is lost is no error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from mesh.bus import Bus
from schemas.delta import MAX_DELTA_CHARS, Delta
from schemas.envelope import VERSION

JOIN_S: Final = 0.02
Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Deltas:
    """The deltas of one (step, part) of one attempt."""

    def __init__(
        self, bus: Bus, subject: str, task: str, attempt: int, *, clock: Callable[[], float], spawn: Spawn
    ) -> None:
        self._bus = bus
        self._subject = subject
        self._task = task
        self._attempt = attempt
        self._clock = clock
        self._spawn = spawn
        self._joined: list[str] = []
        self._chars = 0
        self._offset = 0
        self._late = False

    async def tell(self, text: str, offset: int) -> None:
        """Sends this text, now or joined with what follows it."""
        if not self._joined:
            self._offset = offset
        self._joined.append(text)
        self._chars += len(text)
        if self._bus.backlog() == 0 or self._chars >= MAX_DELTA_CHARS:
            await self.flush()
        elif not self._late:
            self._late = True
            self._spawn(self._flush_late())

    async def flush(self) -> None:
        """Sends what was joined."""
        if not self._joined:
            return
        text = "".join(self._joined)
        delta = Delta(
            v=VERSION, task=self._task, attempt=self._attempt, offset=self._offset, text=text, at=self._clock()
        )
        self._joined, self._chars = [], 0
        await self._bus.send(self._subject, msgspec.json.encode(delta))

    async def _flush_late(self) -> None:
        await asyncio.sleep(JOIN_S)
        self._late = False
        await self.flush()
