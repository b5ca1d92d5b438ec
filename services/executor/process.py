"""The executor as a process: claims tasks of one app and runs their handlers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

from mesh.agents.guard import Threads
from mesh.bus import Bus
from mesh.errors import AppError
from mesh.log.driver import Driver
from mesh.service import ServiceConfig, Stamp, worker_name
from mesh.streams import definitions, run_consumer
from mesh.worker import Worker
from mesh.worker.presence import Presence
from schemas.agent import WorkerRecord
from schemas.envelope import VERSION
from services.executor.execution import Served
from services.executor.handlers import Handlers
from services.executor.models import AppModels, keep_definitions
from services.executor.registration import register


class ExecutorService:
    """Any number of these share the consumer of their app's pool."""

    def __init__(self, config: ServiceConfig) -> None:
        if config.app is None:
            raise AppError("an executor needs an app", hint="mesh service executor --app module:app")
        self.name = worker_name("executor")
        self._config = config
        self._app = config.app
        self._threads = Threads()
        self._worker: Worker | None = None
        self._handlers: Handlers | None = None
        self._draining = False

    async def serve(self, started: Callable[[], None]) -> None:
        config, names, settings = self._config, self._config.names, self._config.settings
        version = config.app_version or self._app.version or "0"
        bus = await Bus.connect(config.url, name=self.name, observer=config.observer)
        models = AppModels(self._app, config.models)
        try:
            await bus.ensure(definitions(names, ack_wait_s=settings.ack_wait_s))
            consumer = run_consumer(names, self._app.pool, ack_wait_s=settings.ack_wait_s)
            await bus.ensure_consumer(consumer)
            await register(bus, names.agents, self._app, version)
            driver = Driver(bus, names, on_storage=self._storage)
            served = Served(
                self._app, version, config.secrets, self._threads, config.observer,
                models.access, await keep_definitions(self._app, driver.objects),
            )  # fmt: skip
            self._handlers = Handlers(driver, Stamp("executor", self.name), served, settings, self.name)
            bus.on_reconnect(self._handlers.lapse_all)
            self._worker = Worker(
                bus, names.runs, consumer.name, self._handlers.run, slots=settings.slots, tick_s=settings.tick_s
            )
            stops = await bus.subscribe(names.cancel_all(), self._handlers.cancel)
            async with contextlib.aclosing(stops), asyncio.TaskGroup() as group:
                looking = group.create_task(models.look())
                await self._run(self._worker, Presence(bus, names.workers, self._record), started)
                looking.cancel()
        finally:
            await models.aclose()
            await bus.aclose()

    async def _run(self, worker: Worker, presence: Presence, started: Callable[[], None]) -> None:
        async with asyncio.TaskGroup() as group:
            beat = group.create_task(presence.beat())
            ready = asyncio.Event()
            serving = group.create_task(worker.serve(ready))
            await ready.wait()
            started()
            await asyncio.wait((serving,))
            beat.cancel()
        await presence.leave()

    def stop(self) -> None:
        self._draining = True
        if self._worker:
            self._worker.stop()

    def stop_now(self) -> None:
        self.stop()
        if self._handlers:
            self._handlers.release_all()

    def busy(self) -> list[str]:
        return sorted(self._handlers.running) if self._handlers else []

    def _storage(self, full: bool) -> None:
        if self._worker:
            self._worker.pause(full)

    def _record(self) -> WorkerRecord:
        return WorkerRecord(
            v=VERSION, worker=self.name, service="executor", pool=self._app.pool,
            app_version=self._config.app_version, pid=os.getpid(), host=socket.gethostname(),
            in_flight=len(self.busy()), draining=self._draining, abandoned_threads=self._threads.abandoned,
        )  # fmt: skip
