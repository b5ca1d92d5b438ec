"""Reading streams: the newest message, one message, or all of a subject.

Direct gets may be answered by any replica, so what they show may be old. A read from the leader asks the leader for the
newest message and is not done before it has seen that one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from mesh.bus.answers import MESSAGE_NOT_FOUND, ApiError, failure
from mesh.bus.api import Api
from mesh.bus.connection import Msg
from mesh.bus.inbox import Inbox
from mesh.bus.messages import StoredMessage
from mesh.bus.scan import Scan
from mesh.errors import BusUnavailable, MeshError
from schemas.instant import rfc3339

_BATCH = 1_000
_LONG = 500
_CATCH_UP_TRIES = 50
_CATCH_UP_S = 0.1
_LEADER_S = 1.0


class _Held(Struct):
    seq: int
    subject: str = ""
    data: bytes = b""
    time: str = ""


class _HeldAnswer(Struct):
    message: _Held


class Reader:
    """Reads for one bus."""

    def __init__(self, inbox: Inbox, api: Api, scan: Scan) -> None:
        self._inbox = inbox
        self._api = api
        self._scan = scan

    async def newest(self, stream: str, subject: str, *, leader: bool) -> StoredMessage | None:
        """The newest message of a subject."""
        if leader:
            return await self._newest_of_leader(stream, subject)
        message = await self._inbox.ask(f"$JS.API.DIRECT.GET.{stream}.{subject}", b"")
        return _stored(message)

    async def get(self, stream: str, seq: int) -> StoredMessage | None:
        """The message at a sequence."""
        body = msgspec.json.encode({"seq": seq})
        return _stored(await self._inbox.ask(f"$JS.API.DIRECT.GET.{stream}", body))

    async def read(self, stream: str, subject: str, *, first: int, expected: int, leader: bool) -> list[StoredMessage]:
        """All messages of a literal subject from a sequence on."""
        if not leader:
            return await self._read_any(stream, subject, first, expected)
        found: list[StoredMessage] = []
        for _ in range(_CATCH_UP_TRIES):
            newest = await self._newest_of_leader(stream, subject)
            if newest is None or newest.seq < first:
                return []
            after = found[-1].seq if found else first - 1
            if newest.seq > after:
                found += await self._read_any(stream, subject, after + 1, expected - len(found))
            if found and found[-1].seq >= newest.seq:
                return found
            await asyncio.sleep(_CATCH_UP_S)
        raise BusUnavailable(f"no replica of {stream} shows {subject} as far as its leader does")

    async def holds_after(self, stream: str, seq: int) -> bool:
        """Whether the leader holds any message after a sequence."""
        return await self._of_leader(stream, {"seq": seq + 1, "next_by_subj": ">"}) is not None

    async def batch(self, stream: str, subject: str, *, first: int, count: int) -> list[StoredMessage]:
        """At most `count` messages that match, from a sequence on, as some replica has them."""
        found: list[StoredMessage] = []
        await self._read_batch(stream, subject, first, found, count)
        return found

    async def last_per_subject(self, stream: str, subject_filter: str) -> AsyncIterator[StoredMessage]:
        """The newest message of every subject that matches."""
        config = {"filter_subject": subject_filter, "deliver_policy": "last_per_subject"}
        async for one in self._scan.messages(stream, config):
            yield StoredMessage(one.seq, one.message.subject, one.message.data, rfc3339(one.time_ns / 1e9))

    async def _read_any(self, stream: str, subject: str, first: int, expected: int) -> list[StoredMessage]:
        if expected <= _LONG:
            return await self._read_direct(stream, subject, first)
        config = {"filter_subject": subject, "deliver_policy": "by_start_sequence", "opt_start_seq": max(first, 1)}
        return [
            StoredMessage(one.seq, one.message.subject, one.message.data)
            async for one in self._scan.messages(stream, config)
        ]

    async def _read_direct(self, stream: str, subject: str, first: int) -> list[StoredMessage]:
        found: list[StoredMessage] = []
        while True:
            pending = await self._read_batch(stream, subject, first, found)
            if not pending:
                return found
            first = found[-1].seq + 1

    async def _read_batch(
        self, stream: str, subject: str, first: int, into: list[StoredMessage], count: int = _BATCH
    ) -> int:
        """Append one batch; answers how many messages are left, 0 at the end."""
        start = len(into)

        def collect(message: Msg) -> bool:
            headers = message.headers or {}
            if not message.data and "Status" in headers:
                return True
            into.append(
                StoredMessage(
                    int(headers["Nats-Sequence"]), headers["Nats-Subject"], message.data, headers["Nats-Time-Stamp"]
                )
            )
            return False

        body = msgspec.json.encode({"batch": count, "next_by_subj": subject, "seq": max(first, 1)})
        end = await self._inbox.ask(f"$JS.API.DIRECT.GET.{stream}", body, collect=collect)
        headers = end.headers or {}
        status = headers.get("Status")
        if status == "404" or (status == "204" and len(into) == start):
            return 0
        if status != "204":
            raise BusUnavailable(f"reading {subject} failed with status {status}")
        return int(headers.get("Nats-Num-Pending", "0"))

    async def _newest_of_leader(self, stream: str, subject: str) -> StoredMessage | None:
        return await self._of_leader(stream, {"last_by_subj": subject})

    async def _of_leader(self, stream: str, which: Mapping[str, Any]) -> StoredMessage | None:
        call = f"STREAM.MSG.GET.{stream}"
        answer = await self._api.call(call, which, _HeldAnswer, patience_s=_LEADER_S)
        if isinstance(answer, ApiError):
            if answer.err_code == MESSAGE_NOT_FOUND:
                return None
            raise failure(f"$JS.API.{call}", answer)
        held = answer.message
        return StoredMessage(held.seq, held.subject, held.data, held.time)


def _stored(message: Msg) -> StoredMessage | None:
    headers = message.headers or {}
    status = headers.get("Status")
    if status is not None and not message.data and "Nats-Sequence" not in headers:
        if status == "404":
            return None
        raise MeshError(f"the broker refused a read with status {status}")
    return StoredMessage(
        int(headers["Nats-Sequence"]), headers["Nats-Subject"], message.data, headers["Nats-Time-Stamp"]
    )
