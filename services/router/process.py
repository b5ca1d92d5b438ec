"""The router as a process: admits submits, appends outsiders' events, reconciles."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

from mesh.bus import Bus
from mesh.log.driver import Driver
from mesh.service import ServiceConfig, Stamp, worker_name
from mesh.streams import definitions
from mesh.worker import Worker
from mesh.worker.presence import Presence
from schemas.agent import WorkerRecord
from schemas.envelope import VERSION
from services.router.handlers import Handlers
from services.router.reconciler import Reconciler
from services.router.registry import AgentRegistry
from services.router.rules import Router


class RouterService:
    """Any number of these share the router's consumers."""

    def __init__(self, config: ServiceConfig) -> None:
        self.name = worker_name("router")
        self._config = config
        self._workers: list[Worker] = []
        self._group: asyncio.TaskGroup | None = None
        self._main: asyncio.Task[None] | None = None

    async def serve(self, started: Callable[[], None]) -> None:
        config, names, settings = self._config, self._config.names, self._config.settings
        bus = await Bus.connect(config.url, name=self.name, observer=config.observer)
        try:
            await bus.ensure(definitions(names, ack_wait_s=settings.ack_wait_s))
            registry = AgentRegistry()
            watching = await registry.watch(bus, names.agents)
            driver = Driver(bus, names, on_storage=self._storage)
            router = Router(
                names=names, writer=Stamp("router", self.name), registry=registry,
                cancel_grace_s=settings.cancel_grace_s,
            )  # fmt: skip
            handlers = Handlers(
                driver, router, registry, settings, stream_created=await bus.stream_created(names.work)
            )  # fmt: skip
            reconciler = Reconciler(bus, driver, router, every_s=settings.reconcile_s)
            bus.on_reconnect(reconciler.wake)
            self._workers = [
                Worker(bus, names.work, consumer, handler, slots=settings.router_slots, tick_s=settings.tick_s)
                for consumer, handler in (("router_submit", handlers.submit), ("router_signal", handlers.signal))
            ]
            presence = Presence(bus, names.workers, self._record)
            async with contextlib.aclosing(watching):
                await self._run(reconciler, presence, started)
        finally:
            await bus.aclose()

    async def _run(self, reconciler: Reconciler, presence: Presence, started: Callable[[], None]) -> None:
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(reconciler.serve()), group.create_task(presence.beat())]
            serving, ready = [], []
            for worker in self._workers:
                ready.append(asyncio.Event())
                serving.append(group.create_task(worker.serve(ready[-1])))
            await asyncio.gather(*(event.wait() for event in ready))
            started()
            await asyncio.wait(serving)
            for task in background:
                task.cancel()
        await presence.leave()

    def stop(self) -> None:
        for worker in self._workers:
            worker.stop()

    def stop_now(self) -> None:
        self.stop()

    def busy(self) -> list[str]:
        return []

    def _storage(self, full: bool) -> None:
        for worker in self._workers:
            worker.pause(full)

    def _record(self) -> WorkerRecord:
        return WorkerRecord(
            v=VERSION, worker=self.name, service="router", pid=os.getpid(), host=socket.gethostname(),
            in_flight=sum(len(worker.held) for worker in self._workers),
        )  # fmt: skip
