"""The router as a process: admits submits, appends outsiders' events, reconciles."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from mesh.log.driver import Driver
from mesh.service import ServiceConfig, Stamp
from mesh.worker import Crew, Worker
from services.router.handlers import Handlers
from services.router.reconciler import Reconciler
from services.router.registry import AgentRegistry
from services.router.rules import Router


class RouterService:
    """Any number of these share the router's consumers."""

    def __init__(self, config: ServiceConfig) -> None:
        self._config = config
        self._crew = Crew("router", config)
        self.name = self._crew.name

    async def serve(self, started: Callable[[], None]) -> None:
        names, settings = self._config.names, self._config.settings
        async with self._crew.connected() as bus:
            registry = AgentRegistry()
            driver = Driver(bus, names, on_storage=self._crew.pause)
            router = Router(
                names=names, writer=Stamp("router", self.name), registry=registry,
                cancel_grace_s=settings.cancel_grace_s,
            )  # fmt: skip
            reconciler = Reconciler(bus, driver, router, every_s=settings.reconcile_s)
            bus.on_reconnect(reconciler.wake)
            async with aclosing(await registry.watch(bus, names.agents)):
                created = await bus.stream_created(names.work)
                handlers = Handlers(driver, router, registry, settings, stream_created=created)
                workers = [
                    Worker(bus, names.work, consumer, handler, slots=settings.router_slots, tick_s=settings.tick_s)
                    for consumer, handler in (("router_submit", handlers.submit), ("router_signal", handlers.signal))
                ]
                await self._crew.serve(bus, workers, started, beside=(reconciler.serve,))

    def stop(self) -> None:
        self._crew.stop()

    def stop_now(self) -> None:
        self._crew.stop()

    def busy(self) -> list[str]:
        return []
