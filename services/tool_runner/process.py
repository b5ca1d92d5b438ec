"""The tool runner as a process: makes the tool calls of one app."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from msgspec.structs import replace

from mesh.errors import AppError
from mesh.log.driver import Driver
from mesh.service import ServiceConfig, Stamp
from mesh.streams import call_consumer
from mesh.worker import Crew, Worker
from schemas.agent import WorkerRecord
from services.tool_runner.handlers import Handlers


class ToolRunnerService:
    """Any number of these share the consumer of their app's pool."""

    def __init__(self, config: ServiceConfig) -> None:
        if config.app is None:
            raise AppError("a tool runner needs an app", hint="mesh service tool-runner --app module:app")
        self._crew = Crew("tool-runner", config, member=self, describe=self._describe)
        self.name = self._crew.name
        self._config = config
        self._app = config.app
        self._handlers: Handlers | None = None

    async def serve(self, started: Callable[[], None]) -> None:
        config, names, settings = self._config, self._config.names, self._config.settings
        async with self._crew.connected() as bus:
            consumer = call_consumer(names, self._app.pool, ack_wait_s=settings.ack_wait_s)
            await bus.ensure_consumer(consumer)
            driver = Driver(bus, names, on_storage=self._crew.pause, patience_s=settings.patience_s)
            handlers = Handlers(driver, Stamp("tool-runner", self.name), self._app, config, self.name)
            self._handlers = handlers
            worker = Worker(bus, consumer, handlers.call, slots=settings.slots, tick_s=settings.tick_s)
            async with aclosing(await bus.subscribe(names.cancel_all(), handlers.cancel)):
                await self._crew.serve(bus, [worker], started)

    def stop(self) -> None:
        self._crew.stop()
        if self._handlers:
            self._handlers.drain()

    def stop_now(self) -> None:
        self.stop()
        if self._handlers:
            self._handlers.leave()

    def busy(self) -> list[str]:
        running = self._handlers.running.values() if self._handlers else ()
        return sorted({one.job.call.task for one in running})

    def _describe(self, record: WorkerRecord) -> WorkerRecord:
        abandoned = self._handlers.threads.abandoned if self._handlers else 0
        return replace(record, pool=self._app.pool, app_version=self._config.version, abandoned_threads=abandoned)
