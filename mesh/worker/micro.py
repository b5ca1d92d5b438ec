"""Answers the NATS micro protocol for one service: who is there, what it is, what it does and how well.

Every service answers on `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`, for all services, for one kind (`mesh-router`) and
for one worker. How much waits in a queue is asked of the broker when somebody wants to know, once a second at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from mesh.bus import Bus, ConsumerState, LiveMessage
from mesh.errors import MeshError
from mesh.subjects import is_inbox
from mesh.worker.condition import Condition
from mesh.worker.health import Health, Queue, judge
from mesh.worker.loop import Worker
from schemas.agent import WorkerRecord
from schemas.instant import rfc3339
from schemas.service import EndpointInfo, EndpointStats, QueueState, ServiceInfo, ServicePing, ServiceStats

GOOD_FOR_S: Final = 1.0
# Well below the time that those who ask wait for all answers.
ANSWER_S: Final = 0.3
NOT_TOLD: Final = ConsumerState(-1, -1, -1)
log = structlog.get_logger("mesh.worker")


class Micro:
    """The answers of one service; `blocked` says what blocks its event loop, where another one answers for it."""

    def __init__(
        self,
        bus: Bus,
        prefix: str,
        record: Callable[[], WorkerRecord],
        workers: Sequence[Worker],
        tell: Callable[[], Condition] = Condition,
        *,
        blocked: str = "",
    ) -> None:
        self._bus = bus
        self._record = record
        self._workers = workers
        self._tell = tell
        self._began = time.time()
        self._blocked = blocked
        first = record()
        self._id = first.worker
        self._name = f"{prefix}-{first.service}"
        self._version = version("nats-agent-mesh")
        self._asked: asyncio.Queue[LiveMessage] = asyncio.Queue()
        self._read: list[_Read] = []
        self._read_at = -GOOD_FOR_S
        self._unread_at: dict[str, float] = {}

    async def serve(self) -> None:
        """Answers for ever; a broker that does not let this user listen there is left alone."""
        async with AsyncExitStack() as stack:
            for subject in ("$SRV.*", f"$SRV.*.{self._name}", f"$SRV.*.{self._name}.{self._id}"):
                try:
                    listening = await self._bus.subscribe(subject, self._asked.put_nowait)
                except MeshError as error:
                    log.warning("this service cannot be asked how it is", subject=subject, error=str(error))
                else:
                    stack.push_async_callback(listening.aclose)
            while True:
                message = await self._asked.get()
                answer = await self._answer(message.subject.split(".")[1])
                if answer is not None and is_inbox(message.reply):
                    await self._bus.send(message.reply, msgspec.json.encode(answer))

    async def _answer(self, verb: str) -> ServicePing | ServiceInfo | ServiceStats | None:
        if verb not in ("PING", "INFO", "STATS"):
            return None
        read, condition = await self._look(), self._tell()
        metadata = self._metadata(read, condition)
        if verb == "PING":
            return ServicePing(name=self._name, id=self._id, version=self._version, metadata=metadata)
        if verb == "INFO":
            return ServiceInfo(
                name=self._name, id=self._id, version=self._version, metadata=metadata,
                description=f"The {self._record().service} of a mesh of agents",
                endpoints=(*map(_info, self._workers), *map(_as_info, condition.endpoints)),
            )  # fmt: skip
        started = min((worker.tally.started_at for worker in self._workers), default=self._began)
        return ServiceStats(
            name=self._name, id=self._id, version=self._version, metadata=metadata, started=rfc3339(started),
            endpoints=(*map(_stats, self._workers, (one.state for one in read)), *condition.endpoints),
        )  # fmt: skip

    async def _look(self) -> list[_Read]:
        """What waits in each queue."""
        if time.monotonic() - self._read_at >= GOOD_FOR_S:
            self._read = await asyncio.gather(*(self._read_one(worker) for worker in self._workers))
            self._read_at = time.monotonic()
        return self._read

    async def _read_one(self, worker: Worker) -> _Read:
        consumer, state, unread = worker.consumer, None, "the consumer is gone"
        try:
            async with asyncio.timeout(ANSWER_S):
                state = await self._bus.consumer_state(consumer.stream, consumer.name)
        except TimeoutError:
            unread = f"the broker did not answer within {ANSWER_S:g} s"
        except MeshError as error:
            unread = error.message
        if state is not None:
            self._unread_at.pop(consumer.name, None)
            return _Read(state)
        now = time.monotonic()
        return _Read(NOT_TOLD, unread, now - self._unread_at.setdefault(consumer.name, now))

    def _metadata(self, read: Sequence[_Read], condition: Condition) -> dict[str, str]:
        record, health = self._record(), self._health(read, condition.health)
        metadata = condition.metadata | {
            "health": health.state, "reason": health.reason, "pool": record.pool, "app_version": record.app_version,
            "host": record.host, "pid": str(record.pid),
            "ack_wait_s": next((f"{worker.consumer.ack_wait_s:g}" for worker in self._workers), ""),
        }  # fmt: skip
        return {key: value for key, value in metadata.items() if value}

    def _health(self, read: Sequence[_Read], beside: Health) -> Health:
        queues = [
            Queue(
                name=worker.consumer.name, in_flight=len(worker.held), slots=worker.slots, pending=one.state.pending,
                idle_s=worker.tally.idle_s, oldest_s=worker.oldest_s(), longest_s=worker.longest_s,
                paused=worker.paused, unread=one.unread, unread_s=one.unread_s,
            )
            for worker, one in zip(self._workers, read, strict=True)
        ]  # fmt: skip
        return judge(queues, draining=self._record().draining, blocked=self._blocked, beside=(beside,))


class _Read(Struct, frozen=True):
    """What the broker says of a queue; or why it says nothing, and for how long it has not."""

    state: ConsumerState
    unread: str = ""
    unread_s: float = 0.0


def _info(worker: Worker) -> EndpointInfo:
    consumer = worker.consumer
    return EndpointInfo(
        name=consumer.name, subject=consumer.filters[0], queue_group=consumer.name, metadata={"stream": consumer.stream}
    )


def _as_info(stats: EndpointStats) -> EndpointInfo:
    return EndpointInfo(name=stats.name, subject=stats.subject, queue_group=stats.queue_group)


def _stats(worker: Worker, state: ConsumerState) -> EndpointStats:
    consumer, tally = worker.consumer, worker.tally
    queue = QueueState(
        in_flight=len(worker.held), slots=worker.slots, pending=state.pending, unacknowledged=state.unacknowledged,
        redelivered=state.redelivered, last_progress=rfc3339(tally.last_at), oldest_s=round(worker.oldest_s(), 3),
    )  # fmt: skip
    return tally.stats(consumer.name, consumer.filters[0], consumer.name, queue)
