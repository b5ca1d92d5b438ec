"""Says that this worker lives, for operators and for a fast takeover.

The record expires by itself a while after the last beat, and is deleted before a worker leaves in order. It lists the
deliveries that a router hands on if the worker's connection is closed, so it is also written when these change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from mesh.bus import Bus
from mesh.errors import BusUnavailable, StorageFull
from schemas.agent import WorkerRecord

BEAT_S: Final = 3.0
PACE_S: Final = 0.1
log = structlog.get_logger("mesh.worker")


class Presence:
    """Keeps one worker's record fresh until it leaves."""

    def __init__(self, bus: Bus, bucket: str, record: Callable[[], WorkerRecord]) -> None:
        self._bus = bus
        self._bucket = bucket
        self._record = record

    async def beat(self) -> None:
        """Writes the record for ever: every few seconds, and at most every 100 ms when it says something else."""
        loop = asyncio.get_running_loop()
        written: WorkerRecord | None = None
        due_at = 0.0
        while True:
            record = self._record()
            if loop.time() >= due_at or written is None or _matters(record) != _matters(written):
                if await self._write(record):
                    written = record
                due_at = loop.time() + BEAT_S
            await asyncio.sleep(PACE_S)

    async def _write(self, record: WorkerRecord) -> bool:
        try:
            await self._bus.put(self._bucket, record.worker, msgspec.json.encode(record))
        except BusUnavailable:
            await self._bus.wait_connected()
            return False
        except StorageFull:
            log.warning("the presence record cannot be written: storage full", worker=record.worker)
            await asyncio.sleep(BEAT_S)
            return False
        return True

    async def leave(self) -> None:
        """Deletes the record; a broker that is away or full lets it expire."""
        try:
            await self._bus.remove(self._bucket, self._record().worker)
        except (BusUnavailable, StorageFull):
            return


def _matters(record: WorkerRecord) -> tuple[tuple[str, ...], bool]:
    return record.replies, record.draining
