"""The router as a process: admits submits, appends outsiders' events, reconciles."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from mesh.log.driver import Driver
from mesh.service import ServiceConfig, Stamp
from mesh.streams import definitions
from mesh.worker import Crew, Worker
from mesh.worker.health import STALE_S
from services.router.duty import Duty
from services.router.handlers import Handlers
from services.router.reconciler import Reconciler
from services.router.registry import AgentRegistry
from services.router.rules import Router
from services.router.takeover import Takeover


class RouterService:
    """Any number of these share the router's consumers."""

    def __init__(self, config: ServiceConfig) -> None:
        self._config = config
        self._crew = Crew("router", config, member=self)
        self.name = self._crew.name

    async def serve(self, started: Callable[[], None]) -> None:
        names, settings = self._config.names, self._config.settings
        async with self._crew.connected() as bus:
            registry = AgentRegistry()
            driver = Driver(bus, names, on_storage=self._crew.pause, patience_s=settings.patience_s)
            router = Router(
                names=names, writer=Stamp("router", self.name), registry=registry,
                cancel_grace_s=settings.cancel_grace_s,
            )  # fmt: skip
            wanted = definitions(names, ack_wait_s=settings.ack_wait_s, replicas=settings.durability.replicas)
            reconciler = Reconciler(
                bus, driver, router, Duty(bus, names, self.name),
                in_memory=wanted.in_memory, every_s=settings.reconcile_s,
            )  # fmt: skip
            bus.on_reconnect(reconciler.wake)
            takeover = Takeover(driver, router)
            listening = takeover.listening(self._config.system_url, self.name)
            async with aclosing(await registry.watch(bus, names)), listening:
                created = await bus.stream_created(names.work)
                handlers = Handlers(driver, router, registry, settings, stream_created=created)
                workers = [
                    Worker(
                        bus,
                        consumer,
                        handler,
                        slots=settings.router_slots,
                        tick_s=settings.tick_s,
                        longest_s=max(STALE_S, 2 * settings.unknown_agent_grace_s),
                    )
                    for consumer, handler in zip(wanted.consumers, (handlers.submit, handlers.signal), strict=True)
                ]
                await self._crew.serve(bus, workers, started, beside=(reconciler.serve, takeover.serve))

    def stop(self) -> None:
        self._crew.stop()

    def stop_now(self) -> None:
        self._crew.stop()

    def busy(self) -> list[str]:
        return []
