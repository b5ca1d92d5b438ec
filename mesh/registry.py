"""What a mesh's buckets say about apps and living workers, read once."""

from __future__ import annotations

import asyncio
import time
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from mesh.bus import Bus
from mesh.subjects import Subjects
from schemas.agent import AppRecord, WorkerRecord
from schemas.unreadable import UNREADABLE

T = TypeVar("T")
FRESH_S: Final = 1.0
FIRST_STRANGE_S: Final = 0.02
LAST_STRANGE_S: Final = 2.0


def strange_delay_s(delivered: int) -> float:
    """How long a delivery stays in the queue that only another version of its app can take, by how often it has come.

    A worker of that version is perhaps idle, perhaps still to be started.
    """
    return min(FIRST_STRANGE_S * 2.0 ** min(delivered - 1, 10), LAST_STRANGE_S)


class Registry(Struct, frozen=True):
    """Apps that have ever been served, and workers that live now."""

    apps: tuple[AppRecord, ...] = ()
    workers: tuple[WorkerRecord, ...] = ()

    @property
    def agents(self) -> frozenset[str]:
        """The names that a task can be submitted to: those registered, and those that some version at work has."""
        registered = {agent.name for app in self.apps for agent in app.agents}
        return frozenset(registered.union(*(worker.agents for worker in self.workers)))

    def workers_of(self, pool: str) -> list[WorkerRecord]:
        """Who runs the tasks of a pool."""
        return [one for one in self.workers if one.service == "executor" and one.pool == pool]

    def serving(self, agent: str) -> list[WorkerRecord]:
        """Who runs the tasks of an agent."""
        return [one for one in self.workers if agent in one.agents]

    def knows(self, pool: str, agent: str) -> bool:
        """Whether some version of a pool's app has an agent: the one that registered last, or one at work."""
        registered = any(app.pool == pool and agent in {one.name for one in app.agents} for app in self.apps)
        return registered or any(one.pool == pool for one in self.serving(agent))

    def versions(self, pool: str) -> set[str]:
        """The app versions at work for a pool."""
        return {one.app_version for one in self.workers if one.pool == pool}

    def of_service(self, service: str) -> list[WorkerRecord]:
        """The workers of one kind."""
        return [one for one in self.workers if one.service == service]


class FreshRegistry:
    """The registry as it was a moment ago, read when it is asked for: presence is too lively to be followed."""

    def __init__(self, bus: Bus, names: Subjects) -> None:
        self._bus = bus
        self._names = names
        self._read = Registry()
        self._read_at = -FRESH_S
        self._reading = asyncio.Lock()

    async def look(self) -> Registry:
        """Both buckets; raises BusUnavailable."""
        async with self._reading:
            if time.monotonic() - self._read_at >= FRESH_S:
                self._read = await read_registry(self._bus, self._names)
                self._read_at = time.monotonic()
        return self._read


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
        except UNREADABLE:
            continue
    return tuple(found)
