"""Drives flows over a real broker: the one place where the log protocol does I/O.

Whatever the broker's state, a flow gets a definite answer in the end or is cancelled: an append whose fate is unknown
is repeated by the flow (L4), reads and follow-ups are repeated here with a growing pause.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
import structlog

from mesh.bus import Bus, StoredMessage
from mesh.bus import Conflict as BusConflict
from mesh.clock import BrokerClock, Clock, SystemClock
from mesh.errors import BusUnavailable, NobodyAnswers, PermissionDenied, StorageFull, TooLarge
from mesh.log import dead_letters, ops
from mesh.log.head import Entry
from mesh.log.large import spill, spill_commit
from mesh.log.objects import MeshObjects
from mesh.log.ops import Flow, T, drive
from mesh.subjects import Subjects
from schemas import envelope, worker
from schemas.error import Error
from schemas.instant import rfc3339
from schemas.object import LARGE_BYTES
from schemas.unreadable import UNREADABLE
from schemas.worker import WorkerAnswer, WorkerRequest

PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
PATIENCE_S: Final = 2.0
MAX_QUESTIONS: Final = 10
UNKNOWN_S: Final = 0.1
ABSENT_S: Final = 0.03
# For so long a leader that was cut off may answer as if it still were one.
DEPOSED_S: Final = 15.0
A = TypeVar("A")
log = structlog.get_logger("mesh.log")
_answer = msgspec.json.Decoder(WorkerAnswer)


def entry_of(message: StoredMessage) -> Entry:
    """A stored message of a task log as its commit."""
    return Entry(message.seq, envelope.decode(message.data))


class Driver:
    """Answers the operations of flows with the broker behind `bus`.

    `on_storage` is told when the broker's store is full (True) and when it takes appends again (False). `patience_s` is
    how long another worker may take to answer. Timers count from the broker's clock, which fires them.
    """

    def __init__(
        self,
        bus: Bus,
        names: Subjects,
        *,
        clock: Clock | None = None,
        on_storage: Callable[[bool], None] = lambda full: None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.bus = bus
        self.names = names
        self.clock = clock or SystemClock()
        self._on_storage = on_storage
        self._full = False
        self._told_denied = False
        self._patience_s = patience_s
        self.broker = BrokerClock(lambda: self._again(lambda: bus.server_time(names.work)))
        self.objects = MeshObjects(bus, names, self._again)
        self._answers: dict[type, Callable[[Any], Awaitable[Any]]] = {
            ops.Append: self._append,
            ops.Read: self._read,
            ops.ReadFirst: self._read_first,
            ops.ReadAfter: self._read_after,
            ops.Publish: self._publish,
            ops.Tell: self._tell,
            ops.Holds: self._holds,
        }

    async def drive(self, flow: Flow[T]) -> T:
        """Runs a flow to its end; what it raises comes out unchanged."""
        return await drive(flow, self.answer)

    async def answer(self, op: ops.Op) -> Any:
        """The answer to one operation of the log; an owner's own (commit, lease, effect) are not its."""
        return await self._answers[type(op)](op)

    async def bury(self, kind: str, task: str, error: Error, delivery: dead_letters.Received) -> ops.Ack:
        """Puts a delivery into the dead letters, with the reason; it may be acknowledged then."""
        log.warning("dead letter", kind=kind, task=task, error=error.message, subject=delivery.subject)
        await self.answer(ops.Publish((dead_letters.letter(self.names, kind, task, error, delivery),)))
        return ops.Ack()

    async def _append(self, op: ops.Append) -> ops.Stored | ops.Conflict | ops.Unknown:
        subject, body = self.names.task(op.commit.task), envelope.encode(op.commit)
        if len(body) > LARGE_BYTES:
            body = envelope.encode(await spill_commit(op.commit, len(body), self.objects))
        if len(body) > envelope.MAX_COMMIT_BYTES:
            raise TooLarge(
                f"a commit of {len(body)} bytes is over the limit of {envelope.MAX_COMMIT_BYTES}",
                hint="pass large values by reference",
            )
        for pause_s in _pauses():
            try:
                answer = await self.bus.append(subject, body, expected=op.expected)
            except StorageFull:
                self._storage(full=True)
            except BusUnavailable:
                await self.bus.wait_connected()
                # A cluster without a leader refuses at once, and that for seconds.
                await asyncio.sleep(UNKNOWN_S)
                return ops.UNKNOWN
            else:
                self._storage(full=False)
                return ops.Conflict(answer.last) if isinstance(answer, BusConflict) else ops.Stored(answer)
            await asyncio.sleep(pause_s)
        raise AssertionError("the pauses never end")

    def _storage(self, *, full: bool) -> None:
        if full != self._full:
            self._full = full
            if full:
                log.error("storage full", hint="free space on the broker or raise max_bytes; work goes on then")
            else:
                log.info("storage takes appends again")
            self._on_storage(full)

    async def _read(self, op: ops.Read) -> Entry | None:
        subject = self.names.task(op.task)
        message = await self._again(lambda: self.bus.newest(self.names.tasks, subject, leader=True))
        return entry_of(message) if message else None

    async def _read_first(self, op: ops.ReadFirst) -> Entry | None:
        subject = self.names.task(op.task)
        message = await self._again(lambda: self.bus.get(self.names.tasks, op.first))
        if message is None or message.subject != subject:
            # A replica that lags behind does not have it yet; a log that was restored names a sequence of another mesh.
            found = await self._again(lambda: self.bus.read(self.names.tasks, subject, first=1, leader=True))
            message = found[0] if found else None
        return entry_of(message) if message else None

    async def _read_after(self, op: ops.ReadAfter) -> tuple[Entry, ...]:
        messages = await self._read_log(op, leader=False)
        if not op.last or not _reaches(messages, op.last):
            messages = await self._read_log(op, leader=True)
        give_up = time.monotonic() + DEPOSED_S
        while op.last and not _reaches(messages, op.last) and time.monotonic() < give_up:
            await asyncio.sleep(PAUSES_S[-1])
            messages = await self._read_log(op, leader=True)
        return tuple([entry_of(m) for m in messages])

    async def _read_log(self, op: ops.ReadAfter, *, leader: bool) -> list[StoredMessage]:
        stream, subject = self.names.tasks, self.names.task(op.task)
        return await self._again(lambda: self.bus.read(stream, subject, first=op.after + 1, leader=leader))

    async def _publish(self, op: ops.Publish) -> None:
        if len(op.messages) == 1:
            await self._publish_one(op.messages[0])
        else:
            async with asyncio.TaskGroup() as group:
                for message in op.messages:
                    group.create_task(self._publish_one(message))

    async def _publish_one(self, message: ops.Message) -> None:
        body = msgspec.json.encode(message.body)
        if len(body) > LARGE_BYTES:
            body = msgspec.json.encode(await spill(message.body, self.objects))
        headers = await self._headers(message)
        await self._again(lambda: self.bus.publish(message.subject, body, headers=headers))
        self._storage(full=False)

    async def _headers(self, message: ops.Message) -> dict[str, str] | None:
        headers = {}
        if message.id:
            headers["Nats-Msg-Id"] = message.id
        if message.target:
            at = message.at or rfc3339(await self.broker.now() + message.after_s)
            headers["Nats-Schedule"] = f"@at {at}"
            headers["Nats-Schedule-Target"] = message.target
        return headers or None

    async def _tell(self, op: ops.Tell) -> None:
        await self.bus.send(op.subject, msgspec.json.encode(op.body))

    async def _holds(self, op: ops.Holds) -> bool:
        """Whether the worker itself says so.

        Silence counts only while the broker answers: one that stands still, or a slow link, is not the worker's. Who
        may not ask has no answer either: then the log alone decides who goes on.
        """
        quick = await self._is_quick()
        for _ in range(MAX_QUESTIONS):
            try:
                return await self._ask_twice(op)
            except PermissionDenied as error:
                self._may_not_ask(error)
                break
            except BusUnavailable:
                before, quick = quick, await self._is_quick()
                if before and quick:
                    break
        return False

    async def _ask_twice(self, op: ops.Holds) -> bool:
        """That nobody listens is heard twice before it counts: a worker whose connection broke is back in a moment."""
        try:
            return await self._ask(op)
        except NobodyAnswers:
            await asyncio.sleep(ABSENT_S)
            return await self._ask(op)

    async def _ask(self, op: ops.Holds) -> bool:
        """What others answer in a worker's place, or cannot be read, is no answer of its own."""
        question = WorkerRequest(kind=worker.HOLDS, seq=op.seq, delivery=op.delivery)

        def is_its_own(body: bytes) -> bool:
            try:
                return _answer.decode(body).worker == op.worker
            except UNREADABLE:
                return False

        answer = await self.bus.request(
            self.names.worker(op.worker), msgspec.json.encode(question), timeout_s=self._patience_s, accept=is_its_own
        )
        return _answer.decode(answer.data).holds

    def _may_not_ask(self, error: PermissionDenied) -> None:
        if not self._told_denied:
            self._told_denied = True
            hint = f"allow this user to publish to {self.names.worker('*')}; slow workers may lose tasks until then"
            log.warning("workers cannot be asked what they hold", error=error.message, hint=hint)

    async def _is_quick(self) -> bool:
        asked_at = time.monotonic()
        await self._again(lambda: self.bus.server_time(self.names.work))
        return time.monotonic() - asked_at < self._patience_s

    async def _again(self, ask: Callable[[], Awaitable[A]]) -> A:
        """Asks until the broker takes it."""
        for pause_s in _pauses():
            try:
                return await ask()
            except StorageFull:
                self._storage(full=True)
            except BusUnavailable:
                await self.bus.wait_connected()
            await asyncio.sleep(pause_s)
        raise AssertionError("the pauses never end")


def _reaches(messages: Sequence[StoredMessage], last: int) -> bool:
    return bool(messages) and messages[-1].seq >= last


def _pauses() -> Any:
    yield from PAUSES_S
    while True:
        yield PAUSES_S[-1]
