"""Drives flows over a real broker: the one place where the log protocol does I/O.

Whatever the broker's state, a flow gets a definite answer in the end or is cancelled: an append whose fate is unknown
is repeated by the flow (L4), reads and follow-ups are repeated here with a growing pause.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec
import structlog

from mesh.bus import Bus, StoredMessage
from mesh.bus import Conflict as BusConflict
from mesh.clock import Clock, SystemClock
from mesh.errors import BusUnavailable, StorageFull, TooLarge
from mesh.log import ops
from mesh.log.head import Entry
from mesh.log.large import spill, spill_commit
from mesh.log.objects import MeshObjects
from mesh.log.ops import Flow, T, drive
from mesh.subjects import Subjects
from schemas import envelope
from schemas.instant import rfc3339
from schemas.object import LARGE_BYTES

PAUSES_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
A = TypeVar("A")
log = structlog.get_logger("mesh.log")


def entry_of(message: StoredMessage) -> Entry:
    """A stored message of a task log as its commit."""
    return Entry(message.seq, envelope.decode(message.data))


class Driver:
    """Answers the operations of flows with the broker behind `bus`.

    `on_storage` is told when the broker's store is full (True) and when it takes appends again (False).
    """

    def __init__(
        self,
        bus: Bus,
        names: Subjects,
        *,
        clock: Clock | None = None,
        on_storage: Callable[[bool], None] = lambda full: None,
    ) -> None:
        self.bus = bus
        self.names = names
        self.clock = clock or SystemClock()
        self._on_storage = on_storage
        self._full = False
        self.objects = MeshObjects(bus, names, self._again)
        self._answers: dict[type, Callable[[Any], Awaitable[Any]]] = {
            ops.Append: self._append,
            ops.Read: self._read,
            ops.ReadFirst: self._read_first,
            ops.ReadAfter: self._read_after,
            ops.Publish: self._publish,
            ops.Tell: self._tell,
        }

    async def drive(self, flow: Flow[T]) -> T:
        """Runs a flow to its end; what it raises comes out unchanged."""
        return await drive(flow, self.answer)

    async def answer(self, op: ops.Op) -> Any:
        """The answer to one operation of the log; an owner's own (commit, lease, effect) are not its."""
        return await self._answers[type(op)](op)

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
        message = await self._again(lambda: self.bus.get(self.names.tasks, op.first))
        return entry_of(message) if message else None

    async def _read_after(self, op: ops.ReadAfter) -> tuple[Entry, ...]:
        subject = self.names.task(op.task)
        messages = await self._again(lambda: self.bus.read(self.names.tasks, subject, first=op.after + 1))
        if not op.last or not messages or messages[-1].seq < op.last:
            messages = await self._again(
                lambda: self.bus.read(self.names.tasks, subject, first=op.after + 1, leader=True)
            )
        return tuple([entry_of(m) for m in messages])

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
        headers = self._headers(message)
        await self._again(lambda: self.bus.publish(message.subject, body, headers=headers))
        self._storage(full=False)

    def _headers(self, message: ops.Message) -> dict[str, str] | None:
        headers = {}
        if message.id:
            headers["Nats-Msg-Id"] = message.id
        if message.target:
            at = message.at or rfc3339(self.clock.now() + message.after_s)
            headers["Nats-Schedule"] = f"@at {at}"
            headers["Nats-Schedule-Target"] = message.target
        return headers or None

    async def _tell(self, op: ops.Tell) -> None:
        await self.bus.send(op.subject, msgspec.json.encode(op.body))

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


def _pauses() -> Any:
    yield from PAUSES_S
    while True:
        yield PAUSES_S[-1]
