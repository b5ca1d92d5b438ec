"""What one commit changes in the view: pure, and the same whoever reads it and however often."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from schemas import envelope, step, task, unreadable
from schemas.envelope import Commit, Event
from schemas.object import digests_in
from schemas.purge import LogsPurged
from schemas.session import TaskRecord
from schemas.task import TaskAccepted, TaskCanceled, TaskRejected

INPUT: Final = "input"
METADATA: Final = "metadata"
RECEIVED: Final = "received"
OUTPUT: Final = "output"
USAGE: Final = "usage"
ERROR: Final = "error"
ARTIFACT: Final = "artifact"
# What a conversation consists of.
SAID: Final = (INPUT, RECEIVED, OUTPUT)

# A commit may also hold a number or a time that is none.
UNREADABLE: Final = (*unreadable.UNREADABLE, OverflowError, ValueError)
_STATES: Final = {
    task.ACCEPTED: "submitted",
    task.STARTED: "working",
    task.COMPLETED: "completed",
    task.FAILED: "failed",
    task.CANCELED: "canceled",
    task.REJECTED: "rejected",
}


class Row(Struct, frozen=True, kw_only=True):
    """A task as its row has it: the record, and what only the store needs."""

    record: TaskRecord
    root: str


class Body(Struct, frozen=True, kw_only=True):
    """A value that went into a task or came out of it, as JSON, or where it is."""

    task: str
    seq: int
    idx: int
    kind: str
    at: str
    body: str | None = None
    ref: str | None = None


class Change(Struct, frozen=True, kw_only=True):
    """What a commit leads to; if it is `fresh`, nothing that was known of its task holds any more."""

    row: Row
    fresh: bool = False
    bodies: tuple[Body, ...] = ()
    objects: frozenset[str] = frozenset()
    origin: str | None = None
    unknown: int = 0


class Stored(Struct, frozen=True):
    """A message: of whose log, where it stands, when the broker took it; no task's where it says what was purged."""

    task: str
    seq: int
    at: str
    data: bytes


def fold(row: Row | None, stored: Stored) -> Change | None:
    """The change that a commit makes to its task's row; None where the row has it already.

    Raises: msgspec.DecodeError for what is no commit.
    """
    commit = envelope.decode(stored.data)
    if row is not None and stored.seq <= row.record.sequence:
        return None
    fresh = row is None or commit.n == 0
    before = _opening(stored) if row is None or fresh else row
    after = _with_events(before, stored, commit)
    bodies = [body for index, event in enumerate(commit.events) for body in _bodies(event, index, stored, commit.at)]
    return Change(
        row=after, fresh=fresh, bodies=tuple(bodies), objects=digests_in(stored.data),
        origin=next((event.data.task for event in commit.events if isinstance(event.data, task.ForkedFrom)), None),
        unknown=sum(isinstance(event.data, Raw) for event in commit.events),
    )  # fmt: skip


def purged(data: bytes) -> LogsPurged | None:
    """What a message says about logs that are gone; None where it cannot be read."""
    try:
        return msgspec.json.decode(data, type=LogsPurged)
    except UNREADABLE:
        return None


def floor_in(data: bytes, seq: int) -> int:
    """Up to where messages like this one, which stands at `seq`, are gone; 0 where it cannot be read, or be so."""
    said = purged(data)
    return said.floor if said is not None and said.floor < seq else 0


def _opening(stored: Stored) -> Row:
    """A task of which nothing is known but that it is there; a log whose beginning is lost goes on from here."""
    record = TaskRecord(id=stored.task, state="submitted", phase="none", context_id=stored.task, first=stored.seq)
    return Row(record=record, root=stored.task.partition("--")[0])


def _with_events(row: Row, stored: Stored, commit: Commit) -> Row:
    before = record = row.record
    for event in commit.events:
        record = _applied(record, event, commit.at)
    record = replace(record, phase=commit.head.phase, sequence=stored.seq, commits=commit.n + 1)
    if (record.state, record.phase) == (before.state, before.phase):
        return replace(row, record=record)
    return replace(row, record=replace(record, status_sequence=stored.seq, status_at=stored.at))


def _applied(record: TaskRecord, event: Event, at: str) -> TaskRecord:
    data = event.data
    if isinstance(data, Raw):
        return record
    record = replace(record, state=_STATES.get(event.type, record.state))
    if isinstance(data, TaskAccepted):
        return replace(
            record, agent=data.agent, pool=data.pool, owner=data.owner, parent=data.parent, submit=data.sequence,
            context_id=data.context_id or record.id, submitted_at=data.at,
        )  # fmt: skip
    if isinstance(data, TaskRejected):
        return replace(
            record, agent=data.agent, owner=data.owner, submit=data.sequence, submitted_at=at,
            error_code=data.error.code,
        )  # fmt: skip
    if isinstance(data, TaskCanceled) and not record.submitted_at:
        return replace(record, parent=data.parent, context_id=data.context_id or record.id, submitted_at=at)
    if event.type == task.STARTED:
        return replace(record, claims=record.claims + 1, started_at=record.started_at or at)
    if event.type == task.CANCEL_REQUESTED:
        return replace(record, cancel_requested=True)
    return replace(record, error_code=data.error.code) if event.type == task.FAILED else record


def _bodies(event: Event, index: int, stored: Stored, at: str) -> list[Body]:
    """The values of an event that are answered; `idx` keeps those of one commit apart."""
    found: list[Body] = []

    def keep(kind: str, value: Any, ref: Any = None) -> None:
        found.append(
            Body(
                task=stored.task, seq=stored.seq, idx=index * 8 + len(found), kind=kind, at=at,
                body=None if value is None and ref is not None else _json(value), ref=_json(ref) if ref else None,
            )
        )  # fmt: skip

    data = event.data
    if isinstance(data, Raw):
        return found
    if event.type == task.ACCEPTED:
        keep(INPUT, data.input, data.input_ref)
        if data.metadata is not None:
            keep(METADATA, data.metadata)
    elif event.type == task.COMPLETED:
        keep(OUTPUT, data.output, data.output_ref)
    elif event.type in (task.FAILED, task.REJECTED):
        keep(ERROR, data.error)
    elif event.type == task.MESSAGE_RECEIVED:
        keep(RECEIVED, data.body)
    elif event.type == step.ARTIFACT_ADDED:
        keep(ARTIFACT, data)
    if event.type in (task.COMPLETED, task.FAILED, task.CANCELED) and data.usage is not None:
        keep(USAGE, data.usage)
    return found


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
