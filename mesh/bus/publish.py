"""Stored publishes: fenced appends to a log, and commands for a queue."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from mesh.bus.answers import WRONG_LAST_SEQUENCE, Ack, decode_ack, failure, last_sequence
from mesh.bus.inbox import Inbox
from mesh.bus.messages import Conflict, Observer
from mesh.errors import BusUnavailable, MeshError
from schemas.unreadable import UNREADABLE

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_BATCH = "Nats-Batch-Id"
_NUMBER = "Nats-Batch-Sequence"
_COMMIT = "Nats-Batch-Commit"
_FLUSH_EVERY = 64


class Publisher:
    """Publishes that wait for the broker's acknowledgement, any number at once."""

    def __init__(self, inbox: Inbox, observer: Observer | None) -> None:
        self._inbox = inbox
        self._observer = observer

    async def append(
        self,
        subject: str,
        data: bytes,
        *,
        expected: int,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        kind: str = "append",
    ) -> int | Conflict:
        """Append if `expected` is still the newest sequence of the subject."""
        fence = {_EXPECTED: str(expected)}
        ack = await self._store(kind, subject, data, fence | dict(headers) if headers else fence, timeout_s)
        if ack.error is None:
            if ack.duplicate:
                raise MeshError(f"{subject}: the broker took an append for a duplicate and did not store it")
            return ack.seq
        if ack.error.err_code == WRONG_LAST_SEQUENCE:
            return Conflict(last_sequence(ack.error))
        raise failure(subject, ack.error)

    async def append_all(self, subject: str, bodies: Sequence[bytes]) -> int | Conflict:
        """Append all to a subject that is empty, as one batch that stands or falls together."""
        batch = secrets.token_hex(8)
        for number, body in enumerate(bodies[:-1], 1):
            # The broker answers what it takes into a batch as well, but only its end says anything.
            await self._inbox.link.publish(subject, body, headers=_in_batch(batch, number))
            if not number % _FLUSH_EVERY:
                await self._inbox.link.flush()
        headers = _in_batch(batch, len(bodies)) | {_COMMIT: "1"}
        ack = await self._store("append", subject, bodies[-1], headers, None)
        if ack.error is None:
            return ack.seq
        if ack.error.err_code == WRONG_LAST_SEQUENCE:
            return Conflict(last_sequence(ack.error))
        raise failure(subject, ack.error)

    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        kind: str = "publish",
    ) -> int:
        """Publish into whatever stream takes the subject."""
        ack = await self._store(kind, subject, data, headers, timeout_s)
        if ack.error is not None:
            raise failure(subject, ack.error)
        return ack.seq

    async def _store(
        self, kind: str, subject: str, data: bytes, headers: Mapping[str, str] | None, timeout_s: float | None
    ) -> Ack:
        if self._observer is not None:
            self._observer.before(kind, subject)
        link = self._inbox.link
        try:
            answer = await self._inbox.ask(subject, data, timeout_s=timeout_s, headers=headers)
            ack = decode_ack(answer.data)
        except BusUnavailable:
            link.unanswered()
            raise
        except UNREADABLE as error:
            raise BusUnavailable(f"{subject} was answered by something that is no stream") from error
        link.answered()
        if self._observer is not None:
            self._observer.after(kind, subject)
        return ack


def _in_batch(batch: str, number: int) -> dict[str, str]:
    headers = {_BATCH: batch, _NUMBER: str(number)}
    return headers | {_EXPECTED: "0"} if number == 1 else headers
