"""The workers of one service in this process, served together with what runs beside them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Protocol

import structlog
from msgspec.structs import replace

from mesh.bus import Bus, Delivery
from mesh.errors import MeshError
from mesh.probe import jetstream_expected
from mesh.service import ServiceConfig, worker_name
from mesh.streams import definitions
from mesh.worker.condition import Condition
from mesh.worker.loop import Worker
from mesh.worker.micro import Micro
from mesh.worker.presence import BEAT_S, Presence, write
from mesh.worker.pulse import Pulse
from mesh.worker.questions import Questions
from schemas.agent import WorkerRecord
from schemas.envelope import VERSION

Background = Callable[[], Coroutine[Any, Any, None]]
HELD_S: Final = 0.1
log = structlog.get_logger("mesh.worker")


class Member(Protocol):
    """The service whose crew it is."""

    def stop(self) -> None: ...

    def stop_now(self) -> None: ...


class Crew:
    """Everything about serving that is the same for each service.

    `describe` adds to the presence record what only its service knows, `tell` to what it says of its health; `member`
    is the service itself, for an order to drain that comes over the bus.
    """

    def __init__(
        self,
        service: str,
        config: ServiceConfig,
        *,
        member: Member,
        describe: Callable[[WorkerRecord], WorkerRecord] | None = None,
        tell: Callable[[], Condition] = Condition,
    ) -> None:
        self.name = worker_name(service)
        self.workers: Sequence[Worker] = ()
        self._service = service
        self._config = config
        self._describe = describe
        self._tell = tell
        self._member = member
        self._draining = False
        self._stopped = asyncio.Event()
        self._handing_back: asyncio.TimerHandle | None = None
        self._presence: Presence | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Bus]:
        """A bus, for the time of the block, to a broker that holds all streams."""
        config = self._config
        bus = await Bus.connect(config.url, name=self.name, observer=config.observer)
        try:
            async with jetstream_expected(bus):
                await bus.ensure(
                    definitions(
                        config.names,
                        ack_wait_s=config.settings.ack_wait_s,
                        replicas=config.settings.durability.replicas,
                    )
                )
            yield bus
        finally:
            await bus.aclose()

    async def serve(
        self, bus: Bus, workers: Sequence[Worker], started: Callable[[], None], *, beside: Sequence[Background] = ()
    ) -> None:
        """Serves until `stop` and the end of what is held; calls `started` when every worker takes deliveries.

        What is `beside` is ended with them.
        """
        self.workers = workers
        if self._draining:
            self.stop()
        names = self._config.names
        presence = self._presence = Presence(bus, names.workers, self._record)
        questions = Questions(bus, names.worker(self.name), self.name, holds=self.holds, drain=self.drain)
        async with questions.listening(), asyncio.TaskGroup() as group:
            micro, pulse = Micro(bus, names.prefix, self._record, workers, self._tell), Pulse(self._speak)
            own = (presence.beat, questions.serve, micro.serve, pulse.beat)
            background = [group.create_task(run()) for run in (*beside, *own)]
            ready = [asyncio.Event() for _ in workers]
            serving = [group.create_task(worker.serve(event)) for worker, event in zip(workers, ready, strict=True)]
            await asyncio.gather(*(event.wait() for event in ready))
            started()
            # A service without workers serves until it is told to stop.
            await (asyncio.wait(serving) if serving else self._stopped.wait())
            for task in background:
                task.cancel()
        if self._handing_back:
            self._handing_back.cancel()
        await presence.leave()

    def stop(self) -> None:
        """Takes nothing new; `serve` returns when what is held is done."""
        self._draining = True
        self._stopped.set()
        for worker in self.workers:
            worker.stop()

    def drain(self, within_s: float | None = None) -> None:
        """Takes nothing new, ends what it can within that time, hands back the rest."""
        if self._handing_back:
            self._handing_back.cancel()
        self._member.stop()
        after_s = self._config.settings.drain_s if within_s is None else within_s
        self._handing_back = asyncio.get_running_loop().call_later(after_s, self._member.stop_now)

    def holds(self, seq: int, delivery: int) -> bool:
        """Whether this delivery of a command is still worked on."""
        return any((one.seq, one.delivered) == (seq, delivery) for one in self._deliveries())

    def pause(self, paused: bool) -> None:
        """Takes nothing new for as long as the broker's store is full."""
        for worker in self.workers:
            worker.pause(paused)

    async def _speak(self, pulse: Pulse, what: str) -> None:
        """Says on a connection of its own that the event loop is blocked, for as long as it is.

        It runs in another thread, so it reads nothing that the loop may change at this moment.
        """
        names = self._config.names
        try:
            bus = await Bus.connect(self._config.url, name=f"{self.name}/pulse")
        except MeshError as error:
            log.warning("nobody can be told of it", error=str(error))
            return
        micro = Micro(bus, names.prefix, self._last_record, self.workers, self._tell, blocked=what)
        answering = asyncio.create_task(micro.serve())
        try:
            while pulse.blocked:
                with suppress(MeshError):
                    await write(bus, names.workers, replace(self._last_record(), stuck=what))
                await asyncio.sleep(BEAT_S / 2)
        finally:
            answering.cancel()
            with suppress(asyncio.CancelledError):
                await answering
            await bus.aclose()

    def _deliveries(self, held_s: float = 0.0) -> list[Delivery]:
        """What is held for that long at the least."""
        since = asyncio.get_running_loop().time() - held_s
        return [one.delivery for worker in self.workers for one in worker.held.values() if one.since <= since]

    def _last_record(self) -> WorkerRecord:
        assert self._presence
        return self._presence.latest

    def _record(self) -> WorkerRecord:
        held = sorted((one.seq, one.reply) for one in self._deliveries(HELD_S))
        record = WorkerRecord(
            v=VERSION, worker=self.name, service=self._service, pid=os.getpid(), host=socket.gethostname(),
            in_flight=sum(len(worker.held) for worker in self.workers), draining=self._draining,
            held=tuple([seq for seq, _ in held]), replies=tuple([reply for _, reply in held]),
        )  # fmt: skip
        return self._describe(record) if self._describe else record
