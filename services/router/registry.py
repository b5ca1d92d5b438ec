"""What the router knows about apps: the registry bucket, watched."""

from __future__ import annotations

import asyncio
import difflib

import msgspec
import structlog

from mesh.bus import Bus, Subscription
from mesh.registry import FreshRegistry, Registry
from mesh.subjects import Subjects
from schemas import error as codes
from schemas.agent import AppRecord
from schemas.error import Error
from schemas.unreadable import UNREADABLE

log = structlog.get_logger("mesh.router")


class AgentRegistry:
    """Which app serves an agent; waits for one that is about to come."""

    def __init__(self) -> None:
        self._apps: dict[str, AppRecord] = {}
        self._living = Registry()
        self._fresh: FreshRegistry | None = None
        self._changed = asyncio.Event()
        self.waiting = 0

    async def watch(self, bus: Bus, names: Subjects) -> Subscription:
        """Follows the bucket of apps; returns once everything in it is known."""
        self._fresh = FreshRegistry(bus, names)
        return await bus.watch(names.agents, self._take)

    async def look(self) -> None:
        """Reads which workers live, for what a record does not say: it names the version that started last.

        Raises: BusUnavailable.
        """
        if self._fresh:
            self._living = await self._fresh.look()

    def pool_of(self, agent: str) -> str | None:
        record = self._find(agent)
        return record.pool if record else next((one.pool for one in self._living.serving(agent)), None)

    def versions_of(self, agent: str) -> set[str]:
        record = self._find(agent)
        return {one.app_version for one in self._living.serving(agent)} | ({record.version} if record else set())

    async def wait_for(self, agent: str, grace_s: float) -> str | None:
        """The pool of an agent, as soon as it is known; None after `grace_s`."""
        self.waiting += 1
        try:
            async with asyncio.timeout(grace_s):
                await self.look()
                while (pool := self.pool_of(agent)) is None:
                    await self._changed.wait()
        except TimeoutError:
            return None
        finally:
            self.waiting -= 1
        return pool

    def unknown(self, agent: str) -> Error:
        """Why a submit to this name is rejected, with the nearest name."""
        names = sorted({a.name for record in self._apps.values() for a in record.agents})
        near = difflib.get_close_matches(agent, names, n=1)
        if near:
            hint = f"did you mean '{near[0]}'?"
        elif names:
            hint = f"agents are: {', '.join(names[:20])}"
        else:
            hint = "no app has registered yet: start one with `mesh service executor --app APP`"
        return Error(code=codes.UNKNOWN_AGENT, message=f"no agent is named '{agent}'", hint=hint, retryable=True)

    def _find(self, agent: str) -> AppRecord | None:
        for record in self._apps.values():
            if any(a.name == agent for a in record.agents):
                return record
        return None

    def _take(self, key: str, value: bytes | None) -> None:
        if value is None:
            self._apps.pop(key, None)
        else:
            try:
                self._apps[key] = msgspec.json.decode(value, type=AppRecord)
            except UNREADABLE as error:
                log.warning("registry entry cannot be read", key=key, error=str(error))
                return
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
