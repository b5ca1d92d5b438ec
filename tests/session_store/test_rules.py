"""What one commit changes: pure, whatever the bytes are."""

from __future__ import annotations

import msgspec
import pytest

from mesh.log.head import View, next_commit
from schemas import envelope, task
from schemas.envelope import Event, event
from schemas.error import Error
from schemas.object import ObjectRef
from schemas.task import TaskAccepted, TaskCanceled, TaskCompleted, TaskFailed, TaskRejected, TaskStarted
from services.session_store import rules
from services.session_store.rules import Change, Row, Stored

AT = "2026-01-02T03:04:05.678901Z"
LATER = "2026-01-02T03:04:06.000000Z"
DIGEST = f"sha256-{'ab' * 32}"
ACCEPTED = TaskAccepted(
    agent="report", pool="shop", digest="d", sequence=7, at=AT, input="otters", context_id="talk", owner="acme/ann"
)


class By:
    """A writer of these commits."""

    by = "executor/test"

    def stamp(self) -> tuple[str, str]:
        return "nonce", AT


class Log:
    """One log as it grows."""

    def __init__(self) -> None:
        self.view = View("t1")
        self.row: Row | None = None
        self.seq = 10

    def add(self, *data: msgspec.Struct) -> Change:
        return self.commit(*[event(one) for one in data])

    def commit(self, *events: Event) -> Change:
        self.seq += 10
        commit = next_commit(self.view, By(), events)
        self.view = View("t1", self.seq, commit.n, self.view.first or self.seq, commit.head, commit.v)
        change = rules.fold(self.row, Stored("t1", self.seq, LATER, envelope.encode(commit)))
        assert change is not None
        self.row = change.row
        return change


def test_the_first_commit_makes_a_task_and_forgets_what_was_known_under_its_id() -> None:
    log = Log()
    change = log.add(ACCEPTED)
    record = change.row.record
    assert change.fresh
    assert (record.state, record.phase, record.first, record.sequence) == ("submitted", "runnable", 20, 20)
    assert (record.agent, record.owner, record.context_id, record.submit) == ("report", "acme/ann", "talk", 7)
    assert (record.status_sequence, record.status_at, record.submitted_at) == (20, LATER, AT)
    again = rules.fold(
        change.row, Stored("t1", 99, LATER, envelope.encode(next_commit(View("t1"), By(), (event(ACCEPTED),))))
    )
    assert again is not None
    assert again.fresh
    assert again.row.record.first == 99


def test_the_status_moves_only_when_state_or_phase_do() -> None:
    log = Log()
    log.add(ACCEPTED)
    started = log.add(TaskStarted(wake=0, cover=1, owner="e", attempt=1)).row.record
    assert (started.state, started.status_sequence, started.claims) == ("working", 30, 1)
    progress = log.commit(Event("text.added", {"text": "x", "offset": 0, "attempt": 1})).row.record
    assert (progress.sequence, progress.status_sequence, progress.commits) == (40, 30, 3)
    ended = log.add(TaskCompleted(output={"a": 1})).row.record
    assert (ended.state, ended.phase, ended.status_sequence) == ("completed", "ended", 50)


def test_a_commit_that_was_folded_already_changes_nothing() -> None:
    log = Log()
    log.add(ACCEPTED)
    assert log.row is not None
    assert (
        rules.fold(log.row, Stored("t1", 20, LATER, envelope.encode(next_commit(View("t1"), By(), (event(ACCEPTED),)))))
        is None
    )


def test_bodies_are_kept_by_kind_and_references_stay_references() -> None:
    log = Log()
    change = log.add(ACCEPTED)
    assert [(one.kind, one.body) for one in change.bodies] == [(rules.INPUT, '"otters"')]
    change = log.add(TaskCompleted(output_ref=ObjectRef(digest=DIGEST, size=3), usage=task.Usage(requests=1)))
    output, usage = change.bodies
    assert (output.kind, output.body, usage.kind) == (rules.OUTPUT, None, rules.USAGE)
    assert output.ref is not None
    assert change.objects == {DIGEST}


def test_an_output_of_null_is_an_output() -> None:
    log = Log()
    log.add(ACCEPTED)
    assert [(one.kind, one.body) for one in log.add(TaskCompleted()).bodies] == [(rules.OUTPUT, "null")]


def test_an_unknown_event_is_counted_and_what_it_refers_to_is_kept() -> None:
    log = Log()
    log.add(ACCEPTED)
    change = log.commit(Event("task.dreamt", {"of": DIGEST}))
    assert (change.unknown, change.row.record.state) == (1, "submitted")
    assert change.objects == {DIGEST}


def test_a_commit_of_a_newer_version_is_read_as_far_as_it_is_understood() -> None:
    body = envelope.encode(next_commit(View("t1"), By(), (event(ACCEPTED),))).replace(b'{"v":1,', b'{"v":9,"new":[],')
    change = rules.fold(None, Stored("t1", 5, LATER, body))
    assert change is not None
    assert change.row.record.agent == "report"


@pytest.mark.parametrize("body", [b"", b"{}", b"otters", b'{"v":1}', b"\xff\xfe"])
def test_what_is_no_commit_says_so(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        rules.fold(None, Stored("t1", 5, LATER, body))


def test_a_rejected_task_and_a_tombstone_are_tasks_too() -> None:
    error = Error(code="unknown_agent", message="no")
    rejected = Log().add(TaskRejected(error=error, digest="d", sequence=3, agent="x", owner="a/b")).row.record
    assert (rejected.state, rejected.error_code, rejected.submit, rejected.phase) == (
        "rejected", "unknown_agent", 3, "ended",
    )  # fmt: skip
    tombstone = Log().add(TaskCanceled(context_id="talk")).row.record
    assert (tombstone.state, tombstone.context_id, tombstone.phase) == ("canceled", "talk", "ended")


def test_a_failure_tells_its_code() -> None:
    log = Log()
    log.add(ACCEPTED)
    assert log.add(TaskFailed(error=Error(code="handler_error", message="no"))).row.record.error_code == "handler_error"


def test_a_log_whose_beginning_is_lost_is_shown_from_where_it_goes_on() -> None:
    log = Log()
    log.add(ACCEPTED)
    log.row = None
    record = log.add(TaskStarted(wake=0, cover=1, owner="e", attempt=1)).row.record
    assert (record.state, record.phase, record.context_id, record.commits) == ("working", "running", "t1", 2)
