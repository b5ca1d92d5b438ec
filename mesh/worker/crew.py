"""The workers of one service in this process, served together with what runs beside them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mesh.bus import Bus
from mesh.probe import jetstream_expected
from mesh.service import ServiceConfig, worker_name
from mesh.streams import definitions
from mesh.worker.loop import Worker
from mesh.worker.presence import Presence
from schemas.agent import WorkerRecord
from schemas.envelope import VERSION

Background = Callable[[], Coroutine[Any, Any, None]]


class Crew:
    """Everything about serving that is the same for each service.

    `describe` adds to the presence record what only its service knows.
    """

    def __init__(
        self, service: str, config: ServiceConfig, *, describe: Callable[[WorkerRecord], WorkerRecord] | None = None
    ) -> None:
        self.name = worker_name(service)
        self.workers: Sequence[Worker] = ()
        self._service = service
        self._config = config
        self._describe = describe
        self._draining = False

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Bus]:
        """A bus, for the time of the block, to a broker that holds all streams."""
        config = self._config
        bus = await Bus.connect(config.url, name=self.name, observer=config.observer)
        try:
            async with jetstream_expected(bus):
                await bus.ensure(definitions(config.names, ack_wait_s=config.settings.ack_wait_s))
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
        presence = Presence(bus, self._config.names.workers, self._record)
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(run()) for run in (*beside, presence.beat)]
            ready = [asyncio.Event() for _ in workers]
            serving = [group.create_task(worker.serve(event)) for worker, event in zip(workers, ready, strict=True)]
            await asyncio.gather(*(event.wait() for event in ready))
            started()
            await asyncio.wait(serving)
            for task in background:
                task.cancel()
        await presence.leave()

    def stop(self) -> None:
        """Takes nothing new; `serve` returns when what is held is done."""
        self._draining = True
        for worker in self.workers:
            worker.stop()

    def pause(self, paused: bool) -> None:
        """Takes nothing new for as long as the broker's store is full."""
        for worker in self.workers:
            worker.pause(paused)

    def _record(self) -> WorkerRecord:
        record = WorkerRecord(
            v=VERSION, worker=self.name, service=self._service, pid=os.getpid(), host=socket.gethostname(),
            in_flight=sum(len(worker.held) for worker in self.workers), draining=self._draining,
        )  # fmt: skip
        return self._describe(record) if self._describe else record
