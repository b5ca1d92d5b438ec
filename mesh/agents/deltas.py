"""Sends text ahead of the log, as it comes.

A piece goes out at once unless the connection still has unsent bytes; what arrives meanwhile is joined into the next
one. Deltas are a cache: one that is lost is no error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from mesh.bus import Bus
from schemas.delta import MAX_DELTA_CHARS, Delta, DeltaKind
from schemas.envelope import VERSION

JOIN_S: Final = 0.02
Spawn = Callable[[Coroutine[Any, Any, None]], object]


class Source(Struct, frozen=True, kw_only=True):
    """Which text a delta belongs to: of the handler itself if `step` is empty."""

    attempt: int
    step: str = ""
    part: int = 0
    kind: DeltaKind = "text"


class Teller(Protocol):
    """Sends the text of one source ahead of the log."""

    async def tell(self, text: str, offset: int) -> None:
        """Sends this text, now or joined with what follows it."""
        ...

    async def flush(self) -> None:
        """Sends what was joined."""
        ...


class Deltas:
    """The deltas of one source."""

    def __init__(
        self, bus: Bus, subject: str, task: str, source: Source, *, clock: Callable[[], float], spawn: Spawn
    ) -> None:
        self._bus = bus
        self._subject = subject
        self._task = task
        self._source = source
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
        text, source = "".join(self._joined), self._source
        delta = Delta(
            v=VERSION, task=self._task, attempt=source.attempt, offset=self._offset, text=text, at=self._clock(),
            step=source.step, part=source.part, kind=source.kind,
        )  # fmt: skip
        self._joined, self._chars = [], 0
        await self._bus.send(self._subject, msgspec.json.encode(delta))

    async def _flush_late(self) -> None:
        await asyncio.sleep(JOIN_S)
        self._late = False
        await self.flush()
