"""Says that this worker lives, for operators and for a fast takeover.

The record expires by itself a while after the last beat, and is deleted before a worker leaves in order. It lists the
deliveries that a router hands on if the worker's connection is closed, so it is also written when these change. A
broker that refuses it does not keep the worker from its work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from mesh.bus import Bus
from mesh.errors import BusUnavailable, MeshError
from schemas.agent import WorkerRecord

BEAT_S: Final = 3.0
PACE_S: Final = 0.1
log = structlog.get_logger("mesh.worker")


class Presence:
    """Keeps one worker's record fresh until it leaves.

    `latest` is what there was to say at the last look; it never changes, so another thread may read it.
    """

    def __init__(self, bus: Bus, bucket: str, record: Callable[[], WorkerRecord]) -> None:
        self.latest = record()
        self._bus = bus
        self._bucket = bucket
        self._record = record
        self._refused = ""

    async def beat(self) -> None:
        """Writes the record for ever: every few seconds, and at most every 100 ms when it says something else."""
        loop = asyncio.get_running_loop()
        written: WorkerRecord | None = None
        due_at = 0.0
        while True:
            record = self.latest = self._record()
            changed = written is not None and _matters(record) != _matters(written)
            if changed or loop.time() >= due_at:
                due_at = loop.time() + BEAT_S
                try:
                    written = record if await self._write(record) else None
                except BusUnavailable:
                    await self._bus.wait_connected()
                    written, due_at = None, 0.0
            await asyncio.sleep(PACE_S)

    async def _write(self, record: WorkerRecord) -> bool:
        """False if the broker refuses; that is told once, and tried again at the next beat."""
        try:
            await write(self._bus, self._bucket, record)
        except BusUnavailable:
            raise
        except MeshError as error:
            if error.code != self._refused:
                self._refused = error.code
                log.warning("the presence record cannot be written", worker=record.worker, error=str(error))
            return False
        self._refused = ""
        return True

    async def leave(self) -> None:
        """Deletes the record; where that cannot be done it expires."""
        with suppress(MeshError):
            await self._bus.remove(self._bucket, self.latest.worker)


async def write(bus: Bus, bucket: str, record: WorkerRecord) -> None:
    """Writes what fits into one message; of deliveries that do not, how many there are."""
    limit = bus.max_payload
    body = msgspec.json.encode(record)
    while len(body) > limit and record.held:
        kept = min(len(record.held) * limit // len(body), len(record.held) - 1)
        unlisted = record.unlisted + len(record.held) - kept
        record = replace(record, held=record.held[:kept], replies=record.replies[:kept], unlisted=unlisted)
        body = msgspec.json.encode(record)
    await bus.put(bucket, record.worker, body)


def _matters(record: WorkerRecord) -> tuple[tuple[str, ...], bool]:
    return record.replies, record.draining
