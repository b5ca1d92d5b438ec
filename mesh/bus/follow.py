"""Following a stream: every message after a sequence, in order and once, for as long as one likes."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from msgspec import Struct

from mesh.bus.api import Api
from mesh.bus.connection import Link
from mesh.bus.delivery import Delivery, Verbs
from mesh.bus.messages import StoredMessage
from mesh.bus.pull import Puller
from mesh.bus.read import Reader
from mesh.bus.scan import consumer_seq
from mesh.errors import MeshError
from schemas.instant import rfc3339

_log = logging.getLogger(__name__)
# The broker cuts a connection off that is 64 MiB behind. As many are asked for as come to half of that if the next ones
# are as large as the last ones, and few while nothing is known of them: each may have 768 KiB.
_AHEAD_BYTES = 32 * 1024 * 1024
_FEWEST = 40
_MOST = 2_000
_BATCH = 1_000
_RETRY_S = 0.2
_LOOK_S = 1.0
_INACTIVE_NS = 30 * 1_000_000_000


class Followed(Struct, frozen=True):
    """What came next: there is nothing between the last answer and `upto` but these messages.

    `created` is when the stream was created. An `upto` before that of the last answer says that the stream is shorter
    than it was, or another one. A message at or before that `upto` says that more was told than was true: a leader that
    was none any more may have been asked.
    """

    messages: list[StoredMessage]
    upto: int
    created: str
    caught_up: bool


class _State(Struct):
    last_seq: int = 0


class _Stream(Struct):
    state: _State
    created: str = ""


class _Delivered(Struct, frozen=True):
    consumer_seq: int = 0


class _Consumer(Struct):
    name: str
    num_pending: int = 0
    delivered: _Delivered = _Delivered()


class Follow:
    """One reader of a whole stream, after a message, `covered` being known to have been the newest sequence once.

    It holds a consumer in the broker's memory and begins a new one after whatever it has received when that one is
    lost, when the connection was, or when a message is missing between two.

    That consumer stands on any replica, which may lag behind the leader, so only what it has delivered is told. What
    stands after that and was removed never comes; the leader is asked whether that is so.
    """

    def __init__(
        self, link: Link, api: Api, verbs: Verbs, reader: Reader, stream: str, *, after: int, covered: int
    ) -> None:
        self._link = link
        self._api = api
        self._verbs = verbs
        self._reader = reader
        self._stream = stream
        self._seq = after
        self._messages: deque[StoredMessage] = deque()
        self._created = ""
        self._floor = 0
        self._covered = max(after, covered)
        self._told = -1
        self._received = 0
        self._pending = 0
        self._consumer = ""
        self._puller: Puller | None = None
        self._stale = False
        self._wake = asyncio.Event()

    async def open(self) -> None:
        """Begin.

        Raises:
            BusUnavailable: the broker is out of reach.
            MeshError: there is no such stream.
        """
        await self._begin()

    async def aclose(self) -> None:
        """Stop following; safe to repeat."""
        puller, self._puller = self._puller, None
        if puller is not None:
            await puller.aclose()
        consumer, self._consumer = self._consumer, ""
        if consumer:
            await self._api.drop_consumer(self._stream, consumer)

    async def next(self) -> Followed:
        """What has come since the last call; waits until something has."""
        while True:
            if self._messages or self._covered != self._told:
                return self._take_over()
            if self._stale:
                await self._begin_again()
            elif self._covered < self._floor:
                await self._look()
            else:
                self._wake.clear()
                await self._wake.wait()

    async def check(self) -> None:
        """Learn whether all that stands in the stream now has been received; `next` then tells.

        The newest messages may have been purged before they came, and nothing else would say that they never will.

        Raises:
            BusUnavailable: the broker is out of reach.
        """
        last = await self._prove()
        if last > self._floor:
            self._floor = last
            self._wake.set()

    async def _prove(self) -> int:
        """Covers all that the stream holds now if that is known to have come; the newest sequence that it gave."""
        name, last = self._consumer, (await self._info()).state.last_seq
        if not name or last <= self._covered:
            return last
        there = await self._api.require(f"CONSUMER.INFO.{self._stream}.{name}", None, _Consumer)
        if there.num_pending or there.delivered.consumer_seq != self._received:
            return last
        seq = self._seq
        if not await self._reader.holds_after(self._stream, seq) and seq == self._seq and name == self._consumer:
            self._cover(last)
        return last

    async def _look(self) -> None:
        """Waits for what was there when it began, and asks whether it still is."""
        self._wake.clear()
        try:
            if not self._pending:
                await self._prove()
        except MeshError as error:
            _log.debug("follow cannot ask: %s", error, extra={"stream": self._stream})
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._wake.wait()
        except TimeoutError:
            self._pending = 0

    def _take_over(self) -> Followed:
        batch = [self._messages.popleft() for _ in range(min(len(self._messages), _BATCH))]
        if self._puller is not None and batch:
            largest = max(len(one.data) for one in batch)
            self._puller.slots = min(max(_AHEAD_BYTES // (largest + 1), _FEWEST), _MOST)
            for _ in batch:
                self._puller.release()
        upto = batch[-1].seq if self._messages else self._covered
        self._told = upto
        return Followed(batch, upto, self._created, not self._messages and upto >= self._floor)

    async def _begin_again(self) -> None:
        try:
            await self.aclose()
            await self._begin()
        except MeshError as error:
            _log.debug("follow waits: %s", error, extra={"stream": self._stream})
            await asyncio.sleep(_RETRY_S)

    async def _begin(self) -> None:
        stream = await self._info()
        self._created, self._floor = stream.created, stream.state.last_seq
        if self._floor < self._covered:
            # What was read is no longer there: the caller must hear of it before anything else.
            self._covered = self._floor
            return
        config = {
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self._seq + 1,
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _INACTIVE_NS,
        }
        body = {"stream_name": self._stream, "config": config}
        made = await self._api.require(f"CONSUMER.CREATE.{self._stream}", body, _Consumer)
        self._consumer, self._received, self._stale = made.name, 0, False
        self._pending = made.num_pending
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{made.name}"
        slots = _FEWEST + len(self._messages)
        self._puller = Puller(self._link, self._verbs, subject, self._take, slots=slots, on_gone=self._lose)
        self._puller.in_flight = len(self._messages)
        try:
            await self._puller.open()
        except MeshError:
            self._stale = True
            raise

    async def _info(self) -> _Stream:
        return await self._api.require(f"STREAM.INFO.{self._stream}", None, _Stream)

    def _take(self, delivery: Delivery) -> None:
        if self._stale or consumer_seq(delivery.reply) != self._received + 1:
            # One is missing; those behind it come again from the next consumer.
            self._lose()
            return
        self._received += 1
        self._seq, self._pending = delivery.seq, delivery.pending
        self._messages.append(StoredMessage(delivery.seq, delivery.subject, delivery.data, rfc3339(delivery.at)))
        self._cover(delivery.seq)

    def _cover(self, seq: int) -> None:
        self._covered = max(self._covered, seq)
        self._wake.set()

    def _lose(self) -> None:
        self._stale = True
        self._wake.set()
