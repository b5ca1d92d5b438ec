"""Several services in one process, each kept running while the broker comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from mesh.errors import BusUnavailable, NotAMesh
from mesh.service import Service, ServiceConfig, ServiceFactory, find_service

RETRY_S: Final = 2.0
log = structlog.get_logger("mesh.runtime")


class Fleet:
    """Services by name, served together; itself a service.

    A drain goes through them from the last to the first, so name those first that the others need: while executors
    finish, the router still passes cancels on.
    """

    def __init__(self, names: Sequence[str], config: ServiceConfig) -> None:
        self.name = "+".join(names)
        self._members = [_Member(name, find_service(name), config) for name in names]
        self._stopping = asyncio.Event()

    async def serve(self, started: Callable[[], None]) -> None:
        """Serves until stopped, or until each has been told to drain over the bus; waits for a broker that is away.

        Raises: what no waiting cures, such as AppError, PermissionDenied or StreamMismatch, in an exception group.
        """
        async with asyncio.TaskGroup() as group:
            serving = [(member, group.create_task(self._serve(member))) for member in self._members]
            announcing = group.create_task(self._announce(started))
            await self._stopping.wait()
            announcing.cancel()
            for member, task in reversed(serving):
                if not member.stop():
                    task.cancel()
                await asyncio.wait((task,))

    def stop(self) -> None:
        self._stopping.set()

    def stop_now(self) -> None:
        self._stopping.set()
        for member in self._members:
            member.stop_now()

    def busy(self) -> list[str]:
        return [task for member in self._members for task in member.busy()]

    async def _serve(self, member: _Member) -> None:
        await member.serve()
        if all(one.left for one in self._members):
            self._stopping.set()

    async def _announce(self, started: Callable[[], None]) -> None:
        for member in self._members:
            await member.started.wait()
        started()


class _Member:
    """One service of a fleet, made anew after each failure that may pass."""

    def __init__(self, name: str, factory: ServiceFactory, config: ServiceConfig) -> None:
        self.started = asyncio.Event()
        self.left = False
        self._name = name
        self._factory = factory
        self._config = config
        self._serving: Service | None = None  # while it takes work
        self._stopping = False

    async def serve(self) -> None:
        while not self._stopping:
            service = self._factory(self._config)
            try:
                await service.serve(lambda service=service: self._begin(service))  # type: ignore[misc]
            except* BusUnavailable as group:
                first = _first(group)
                lacks = "no JetStream" if isinstance(first, NotAMesh) else "no broker"
                log.warning(f"{lacks}; trying again", service=self._name, url=self._config.url, error=str(first))
            else:
                self.left = True
            finally:
                self._serving = None
            if self.left:
                return
            if not self._stopping:
                await asyncio.sleep(RETRY_S)

    def stop(self) -> bool:
        """Begins a drain; False if there is nothing to drain, and the member may be cancelled."""
        self._stopping = True
        if self._serving is None:
            return False
        self._serving.stop()
        return True

    def stop_now(self) -> None:
        self._stopping = True
        if self._serving:
            self._serving.stop_now()

    def busy(self) -> list[str]:
        return self._serving.busy() if self._serving else []

    def _begin(self, service: Service) -> None:
        self._serving = service
        self.started.set()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
