"""The tool runner as a process: makes the tool calls of one app."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

from mesh.bus import Bus
from mesh.errors import AppError
from mesh.log.driver import Driver
from mesh.service import ServiceConfig, Stamp, worker_name
from mesh.streams import call_consumer, definitions
from mesh.worker import Worker
from mesh.worker.presence import Presence
from schemas.agent import WorkerRecord
from schemas.envelope import VERSION
from services.tool_runner.handlers import Handlers


class ToolRunnerService:
    """Any number of these share the consumer of their app's pool."""

    def __init__(self, config: ServiceConfig) -> None:
        if config.app is None:
            raise AppError("a tool runner needs an app", hint="mesh service tool-runner --app module:app")
        self.name = worker_name("tool-runner")
        self._config = config
        self._app = config.app
        self._worker: Worker | None = None
        self._handlers: Handlers | None = None
        self._draining = False

    async def serve(self, started: Callable[[], None]) -> None:
        config, names, settings = self._config, self._config.names, self._config.settings
        bus = await Bus.connect(config.url, name=self.name, observer=config.observer)
        try:
            await bus.ensure(definitions(names, ack_wait_s=settings.ack_wait_s))
            consumer = call_consumer(names, self._app.pool, ack_wait_s=settings.ack_wait_s)
            await bus.ensure_consumer(consumer)
            driver = Driver(bus, names, on_storage=self._storage)
            self._handlers = Handlers(driver, Stamp("tool-runner", self.name), self._app, config, self.name)
            self._worker = Worker(
                bus, names.work, consumer.name, self._handlers.call, slots=settings.slots, tick_s=settings.tick_s
            )
            stops = await bus.subscribe(names.cancel_all(), self._handlers.cancel)
            async with contextlib.aclosing(stops):
                await self._run(self._worker, Presence(bus, names.workers, self._record), started)
        finally:
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
        if self._handlers:
            self._handlers.drain()

    def stop_now(self) -> None:
        self.stop()
        if self._handlers:
            self._handlers.leave()

    def busy(self) -> list[str]:
        running = self._handlers.running.values() if self._handlers else ()
        return sorted({one.job.call.task for one in running})

    def _storage(self, full: bool) -> None:
        if self._worker:
            self._worker.pause(full)

    def _record(self) -> WorkerRecord:
        return WorkerRecord(
            v=VERSION, worker=self.name, service="tool-runner", pool=self._app.pool,
            app_version=self._config.app_version, pid=os.getpid(), host=socket.gethostname(),
            in_flight=len(self.busy()), draining=self._draining,
            abandoned_threads=self._handlers.threads.abandoned if self._handlers else 0,
        )  # fmt: skip
