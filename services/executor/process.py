"""The executor as a process: claims tasks of one app and runs their handlers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from msgspec.structs import replace

from mesh.agents.guard import Threads
from mesh.errors import AppError
from mesh.log.driver import Driver
from mesh.service import ServiceConfig, Stamp
from mesh.streams import run_consumer
from mesh.worker import Crew, Worker
from schemas.agent import WorkerRecord
from services.executor.execution import Served
from services.executor.handlers import Handlers
from services.executor.models import AppModels, keep_definitions
from services.executor.registration import register


class ExecutorService:
    """Any number of these share the consumer of their app's pool."""

    def __init__(self, config: ServiceConfig) -> None:
        if config.app is None:
            raise AppError("an executor needs an app", hint="mesh service executor --app package.module:app")
        self._config = config
        self._app = config.app
        self._threads = Threads()
        self._handlers: Handlers | None = None
        self._models = AppModels(self._app, config.models)
        self._crew = Crew("executor", config, member=self, describe=self._describe)
        self.name = self._crew.name

    async def serve(self, started: Callable[[], None]) -> None:
        config, names, settings = self._config, self._config.names, self._config.settings
        models = self._models
        async with aclosing(models), self._crew.connected() as bus:
            consumer = run_consumer(names, self._app.pool, ack_wait_s=settings.ack_wait_s)
            await bus.ensure_consumer(consumer)
            await register(bus, names.agents, self._app, config.version)
            driver = Driver(bus, names, on_storage=self._crew.pause, patience_s=settings.patience_s)
            digests = await keep_definitions(self._app, models.access.definitions, driver.objects)
            served = Served(
                self._app, config.version, config.secrets, self._threads, config.observer,
                models.access, digests, f"{bus.new_inbox()}.told",
            )  # fmt: skip
            handlers = Handlers(driver, Stamp("executor", self.name), served, settings, self.name)
            self._handlers = handlers
            bus.on_reconnect(handlers.lapse_all)
            worker = Worker(bus, consumer, handlers.run, slots=settings.slots, tick_s=settings.tick_s)
            async with (
                aclosing(await bus.subscribe(names.cancel_all(), handlers.cancel)),
                aclosing(await bus.subscribe(served.inbox, handlers.hear, on_gap=handlers.missed)),
            ):
                await self._crew.serve(bus, [worker], started, beside=[models.look])

    def stop(self) -> None:
        self._crew.stop()

    def stop_now(self) -> None:
        self._crew.stop()
        if self._handlers:
            self._handlers.release_all()

    def busy(self) -> list[str]:
        return sorted(self._handlers.running) if self._handlers else []

    def _describe(self, record: WorkerRecord) -> WorkerRecord:
        return replace(
            record, pool=self._app.pool, app_version=self._config.version, abandoned_threads=self._threads.abandoned,
            agents=tuple(sorted(self._app.agents)), problems=tuple(self._models.problems),
        )  # fmt: skip
