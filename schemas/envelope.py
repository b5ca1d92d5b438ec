"""The commit: one message of a task's log, and the one table of event types.

The envelope is decoded first with each event's body raw; the body then by its type. An unknown type keeps its raw
bytes, so that it can be skipped, counted and passed on unchanged. Values that came off the wire hold no cycles, so the
collector need not walk over them (`gc=False`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from schemas import step, task
from schemas.unreadable import UNREADABLE

VERSION: Final = 1
MAX_COMMIT_BYTES: Final = 768 * 1024

EVENTS: Final[dict[str, type[Struct]]] = {**task.EVENTS, **step.EVENTS}
TYPE_OF: Final[dict[type[Struct], str]] = {cls: name for name, cls in EVENTS.items()}


class Head(Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What the fold of a log gives; see the delivery page for each field.

    `wake` is the `n` of the commit that made the task runnable, `cover` the sequence of the run command under which
    it was claimed, `delivery` the delivery count of that command then, `claim` the `n` of that claim, `starts` the
    claims since the owner's last other commit, `cut_offs` how often a router has handed the task on since then.
    """

    phase: str = "none"
    wake: int = 0
    cover: int = 0
    delivery: int = 0
    claim: int = 0
    owner: str = ""
    starts: int = 0
    cancel: bool = False
    cancel_id: str = ""
    tell: bool = False
    not_apps: tuple[str, ...] = ()
    cut_offs: int = 0
    deadline: bool = False


class Event(Struct, frozen=True, gc=False):
    """One event; `data` is the struct of its type, or raw bytes if that is unknown."""

    type: str
    data: Any


class Commit(Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Events that stand or fall together; `head` is the state they lead to.

    `n` counts the commits of a task from 0, `first` is the stream sequence of commit 0 and absent on it, `by` is role,
    writer and attempt (`executor/<worker>`), `nonce` tells a writer's own commit from another's.
    """

    v: int
    task: str
    n: int
    nonce: str
    by: str
    at: str
    head: Head
    events: tuple[Event, ...]
    first: int = 0
    trace: str = ""


class _WireEvent(Struct, gc=False):
    type: str
    data: Raw


class _WireCommit(Struct, gc=False, kw_only=True):
    v: int
    task: str
    n: int
    nonce: str
    by: str
    at: str
    head: Head
    events: list[_WireEvent]
    first: int = 0
    trace: str = ""


_encoder = msgspec.json.Encoder()
_commit = msgspec.json.Decoder(_WireCommit)
_bodies = {name: msgspec.json.Decoder(cls) for name, cls in EVENTS.items()}


def event(data: Struct) -> Event:
    """Wraps the struct of a known type."""
    return Event(TYPE_OF[type(data)], data)


def encode(commit: Commit) -> bytes:
    """The commit as it stands in the log."""
    return _encoder.encode(commit)


def decode(body: bytes) -> Commit:
    """Reads a commit of any version; raises `msgspec.DecodeError`, whatever the bytes."""
    try:
        w = _commit.decode(body)
    except (RecursionError, UnicodeDecodeError) as error:
        raise msgspec.DecodeError(f"the commit cannot be read: {error}") from error
    if not w.events:
        raise msgspec.DecodeError("the commit holds no event")
    return Commit(
        v=w.v, task=w.task, n=w.n, nonce=w.nonce, by=w.by, at=w.at, head=w.head,
        events=tuple([_decode_event(e) for e in w.events]), first=w.first, trace=w.trace,
    )  # fmt: skip


def _decode_event(wire: _WireEvent) -> Event:
    decoder = _bodies.get(wire.type)
    if decoder is not None:
        try:
            return Event(wire.type, decoder.decode(wire.data))
        except UNREADABLE:
            pass  # a later version's form of a known type: as good as unknown
    return Event(wire.type, msgspec.Raw(bytes(wire.data)))
