"""Several services in one process, each kept running while the broker comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from mesh.errors import BusUnavailable
from mesh.service import Service, ServiceConfig, find_service

RETRY_S: Final = 2.0
log = structlog.get_logger("mesh.runtime")


class Fleet:
    """Services by name, served together; itself a service.

    A drain goes through them from the last to the first, so name those first that the others need: while executors
    finish, the router still passes cancels on.
    """

    def __init__(self, names: Sequence[str], config: ServiceConfig) -> None:
        self.name = "+".join(names)
        self._members = [_Member(name, config) for name in names]
        self._stopping = asyncio.Event()

    async def serve(self, started: Callable[[], None]) -> None:
        """Serves until stopped; waits for a broker that is away and says so.

        Raises: what no waiting cures, such as AppError, PermissionDenied or StreamMismatch, in an exception group.
        """
        async with asyncio.TaskGroup() as group:
            serving = [group.create_task(member.serve()) for member in self._members]
            for member in self._members:
                await member.started.wait()
            started()
            await self._stopping.wait()
            for member, task in zip(reversed(self._members), reversed(serving), strict=True):
                member.stop()
                await asyncio.wait((task,))

    def stop(self) -> None:
        self._stopping.set()
        for member in self._members:
            member.give_up()

    def stop_now(self) -> None:
        self.stop()
        for member in self._members:
            member.stop_now()

    def busy(self) -> list[str]:
        return [task for member in self._members for task in member.busy()]


class _Member:
    """One service of a fleet, made anew after each failure that may pass."""

    def __init__(self, name: str, config: ServiceConfig) -> None:
        self.started = asyncio.Event()
        self._name = name
        self._factory = find_service(name)
        self._config = config
        self._service: Service | None = None
        self._stopping = asyncio.Event()
        self._takes_work = False

    async def serve(self) -> None:
        while not self._stopping.is_set():
            self._service = self._factory(self._config)
            try:
                await self._serve_once(self._service)
            except BusUnavailable as error:
                log.warning("the broker cannot be reached; trying again", service=self._name, error=str(error))
            except* BusUnavailable as group:
                log.warning("the broker was lost; starting again", service=self._name, error=str(group.exceptions[0]))
            await self._pause()
        self.started.set()
