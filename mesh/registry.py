"""What a mesh's buckets say about apps and living workers, read once."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from mesh.bus import Bus
from mesh.subjects import Subjects
from schemas.agent import AppRecord, WorkerRecord

T = TypeVar("T")


class Registry(Struct, frozen=True):
    """Apps that have ever been served, and workers that live now."""

    apps: tuple[AppRecord, ...] = ()
    workers: tuple[WorkerRecord, ...] = ()

    def workers_of(self, pool: str) -> list[WorkerRecord]:
        """Who runs the tasks of a pool."""
        return [one for one in self.workers if one.service == "executor" and one.pool == pool]

    def of_service(self, service: str) -> list[WorkerRecord]:
        """The workers of one kind."""
        return [one for one in self.workers if one.service == service]


async def read_registry(bus: Bus, names: Subjects) -> Registry:
    """Both buckets, as they are now; entries that cannot be read are left out.

    Raises: BusUnavailable.
    """
    return Registry(await _all(bus, names.agents, AppRecord), await _all(bus, names.workers, WorkerRecord))


async def _all(bus: Bus, bucket: str, kind: type[T]) -> tuple[T, ...]:
    found = []
    for key in sorted(await bus.keys(bucket)):
        body = await bus.fetch(bucket, key)
        try:
            if body is not None:
                found.append(msgspec.json.decode(body, type=kind))
        except msgspec.DecodeError:
            continue
    return tuple(found)
