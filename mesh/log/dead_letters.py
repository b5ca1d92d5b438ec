"""Dead letters: what could not be understood, routed or finished, with its reason and its original bytes.

A letter always fits: its publish is repeated until it is stored, and one that is too large would circle for ever with
the message that it is about.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final, Protocol

from mesh.log.ops import Message
from mesh.subjects import Subjects
from schemas import error as codes
from schemas.command import DeadLetter
from schemas.envelope import VERSION
from schemas.error import Error
from schemas.instant import rfc3339

INVALID_SUBJECT: Final = "invalid_subject"
INVALID_RUN: Final = "invalid_run"
INVALID_SIGNAL: Final = "invalid_signal"
INVALID_FIRED: Final = "invalid_fired"
INVALID_CALL: Final = "invalid_call"
REFUSED_SIGNAL: Final = "refused_signal"
EXPIRED: Final = "expired"
DUPLICATE_ID: Final = codes.DUPLICATE_ID
ATTEMPTS_EXHAUSTED: Final = codes.ATTEMPTS_EXHAUSTED
KINDS: Final = (
    INVALID_SUBJECT, INVALID_RUN, INVALID_SIGNAL, INVALID_FIRED, INVALID_CALL, REFUSED_SIGNAL, EXPIRED, DUPLICATE_ID,
    ATTEMPTS_EXHAUSTED,
)  # fmt: skip

NO_TASK: Final = "-"
MAX_TEXT: Final = 128 * 1024
MAX_BYTES: Final = 700 * 1024
MAX_HEADERS: Final = 8 * 1024


class Received(Protocol):
    """The delivery of the message that a letter is about."""

    @property
    def subject(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def seq(self) -> int: ...
    @property
    def at(self) -> float: ...
    @property
    def headers(self) -> Mapping[str, str] | None: ...


def letter(names: Subjects, kind: str, task: str, error: Error, delivery: Received) -> Message:
    """The dead letter of a delivery, to be published before it is acknowledged."""
    stream_kind = delivery.subject.removeprefix(f"{names.prefix}.").partition(".")[0]
    return Message(
        subject=names.dead(kind, task),
        body=contents(task, error, delivery),
        id=letter_id(stream_kind, delivery.seq, kind),
    )


def letter_id(source: str, sequence: int, kind: str) -> str:
    """The message id of a letter; `source` tells the streams apart, whose sequences say nothing of one another."""
    return f"dead:{source}:{sequence}:{kind}"


def contents(task: str, error: Error, delivery: Received) -> DeadLetter:
    """What a letter says: why, and enough to send the message again; of too large ones the beginning."""
    body, encoding = _readable(delivery.data)
    return DeadLetter(
        v=VERSION, task=task, error=error, subject=delivery.subject, at=rfc3339(delivery.at),
        headers=_first_headers(delivery.headers), body=body, encoding=encoding, size=len(delivery.data),
        sequence=delivery.seq,
    )  # fmt: skip


def _readable(data: bytes) -> tuple[str, str]:
    """A body as a letter can hold it: escaped in JSON, text may grow sixfold, base64 by a third."""
    if len(data) <= MAX_TEXT:
        try:
            return data.decode(), "utf-8"
        except UnicodeDecodeError:
            pass
    return base64.b64encode(data[:MAX_BYTES]).decode(), "base64"


def _first_headers(headers: Mapping[str, str] | None) -> dict[str, str] | None:
    kept: dict[str, str] = {}
    left = MAX_HEADERS
    for name, value in (headers or {}).items():
        left -= len(name) + len(value)
        if left < 0:
            break
        kept[name] = value
    return kept or None
