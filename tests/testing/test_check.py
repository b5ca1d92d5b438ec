"""The check of a log finds every way in which one can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from mesh.log.check import check_log
from mesh.log.head import Entry, View, next_commit, view_of
from mesh.log.journal import WAITING
from mesh.service import Stamp
from mesh.testing import assert_invariants
from schemas.envelope import event
from schemas.error import HANDLER_ERROR, TOOL_FAILED, Error
from schemas.step import StepCompleted, StepFailed, StepRequested, StepStarted, TextAdded
from schemas.task import CancelRequested, TaskAccepted, TaskCanceled, TaskCompleted, TaskStarted, TaskSuspended

ACCEPTED = TaskAccepted(agent="a", pool="p", digest="d", sequence=1, at="")


class Log:
    """A log that is written one commit at a time; sequences go up in twos, as if others wrote as well."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, by: str, *data: Any) -> Log:
        role, _, name = by.partition("/")
        last = self.entries[-1] if self.entries else None
        view = view_of(last) if last else View("t")
        commit = next_commit(view, Stamp(role, name), tuple(event(one) for one in data))
        self.entries.append(Entry(view.seq + 2, commit))
        return self

    def claim(self, worker: str) -> Log:
        head = self.entries[-1].commit.head
        started = TaskStarted(
            wake=0, cover=9, delivery=head.delivery + 1, owner=worker, attempt=head.starts + 1
        )  # fmt: skip
        return self.add(f"executor/{worker}", started)

    def force(self, by: str, *data: Any) -> Log:
        """A commit that no right writer would make: its head stays that of the one before."""
        last = self.entries[-1].commit
        commit = replace(
            last, n=last.n + 1, nonce=f"forced{last.n}", by=by, events=tuple(event(one) for one in data),
            first=self.entries[0].seq,
        )  # fmt: skip
        self.entries.append(Entry(self.entries[-1].seq + 1, commit))
        return self


def good() -> Log:
    log = Log().add("router/r", ACCEPTED).claim("w")
    log.add("executor/w", TextAdded(text="ab", offset=0, attempt=1))
    log.add("executor/w", StepRequested(step="s", kind="code", name="s"), StepCompleted(step="s", output=1))
    log.add("executor/w", StepRequested(step="n", kind="code", name="n", idempotent=False), StepStarted(step="n"))
    log.add("executor/w", StepCompleted(step="n"), TextAdded(text="c", offset=2, attempt=1))
    return log


def test_a_good_log_has_no_violations() -> None:
    log = good()
    assert check_log(log.entries, ended=False) == []
    assert check_log(log.add("executor/w", TaskCompleted(output=1)).entries) == []
    assert check_log(Log().add("router/r", TaskCanceled()).entries) == []


@pytest.mark.parametrize(("canceled", "code"), [(True, TOOL_FAILED), (True, HANDLER_ERROR), (False, TOOL_FAILED)])
def test_only_a_cancel_spares_a_call_that_must_not_be_repeated_its_start(canceled: bool, code: str) -> None:
    log = good().add("executor/w", StepRequested(step="t", kind="tool", name="t", idempotent=False))
    if canceled:
        log.add("router/r", CancelRequested(id="c"))
    log.add("tool-runner/w", StepFailed(step="t", error=Error(code=code, message="m")))
    found = check_log(log.entries, ended=False)
    assert ["without a start" in one for one in found] == [True] * (not (canceled and code == TOOL_FAILED))


def test_a_log_that_has_not_ended_is_told() -> None:
    assert check_log(good().entries) == ["no terminal event; the last one is text.added"]
    assert check_log([]) == ["the log is empty"]


BROKEN: dict[str, tuple[Callable[[Log], object], str]] = {
    "a commit is missing": (lambda log: log.entries.pop(2), "n is 3 where 2 is due"),
    "a commit stands twice": (lambda log: log.entries.append(log.entries[-1]), "stands twice"),
    "another first": (
        lambda log: log.entries.append(
            Entry(99, replace(log.add("executor/w", TaskCompleted()).entries.pop().commit, first=7))
        ),
        "first is 7, and commit 0 stands at 2",
    ),
    "a wrong head": (lambda log: log.force("executor/w", TaskCompleted()), "its events give"),
    "something after the end": (
        lambda log: log.add("executor/w", TaskCompleted()).force("router/r", CancelRequested(id="c")),
        "comes after the end",
    ),
    "a wait for nothing": (
        lambda log: log.add("executor/w", TaskSuspended(reason=WAITING)),
        "nothing is open that could wake it",
    ),
    "two ends": (
        lambda log: log.add("executor/w", TaskCompleted()).force("router/r", TaskCanceled()),
        "2 terminal events: task.completed, task.canceled",
    ),
    "two acceptances": (lambda log: log.force("router/r", ACCEPTED), "task.accepted again"),
    "a step requested twice": (
        lambda log: log.add("executor/w", StepRequested(step="s", kind="code", name="s")),
        "step 's' is requested again",
    ),
    "a second result": (lambda log: log.add("executor/w", StepCompleted(step="s")), "step 's' has a second result"),
    "a result without a request": (
        lambda log: log.add("executor/w", StepCompleted(step="x")),
        "step 'x' has a result and was never requested",
    ),
    "a start after the result": (
        lambda log: log.add("executor/w", StepStarted(step="s")),
        "step 's' starts after its result",
    ),
    "a hole in the text": (
        lambda log: log.add("executor/w", TextAdded(text="x", offset=9, attempt=1)),
        "text at offset 9, and 3 characters stand before it",
    ),
    "text of a dead attempt": (
        lambda log: log.claim("x")
        .add("executor/x", TextAdded(text="x", offset=3, attempt=2))
        .add("executor/x", TextAdded(text="y", offset=4, attempt=1)),
        "text of attempt 1 after text of attempt 2",
    ),
    "a fenced writer": (
        lambda log: log.claim("x").add("executor/w", TextAdded(text="x", offset=3, attempt=1)),
        "written by executor/w, and the owner is x (running)",
    ),
    "a router that completes": (
        lambda log: log.add("router/r", TaskCompleted()),
        "written by router/r, and the owner is w (running)",
    ),
    "a claim that skips an attempt": (
        lambda log: log.add(
            "executor/x", TaskStarted(wake=0, cover=9, delivery=2, owner="x", attempt=7)
        ),
        "attempt 7 follows 0 starts",
    ),
    "a take-over under another command": (
        lambda log: log.add("executor/x", TaskStarted(wake=0, cover=8, delivery=2, owner="x", attempt=1)),
        "a take-over under command 8",
    ),
    "a late claim": (
        lambda log: log.add("executor/x", TaskStarted(wake=0, cover=9, delivery=0, owner="x", attempt=1)),
        "delivery 0 takes over from the later delivery 1",
    ),
    "a signal taken twice": (
        lambda log: log.add("router/r", CancelRequested(id="c")).add("router/r", CancelRequested(id="c")),
        "task signal 'c' is taken twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_log_is_told(case: str) -> None:
    spoil, violation = BROKEN[case]
    log = good()
    spoil(log)
    found = check_log(log.entries, ended=False)
    assert any(violation in one for one in found), found


def test_the_assertion_names_violations_and_shows_the_log() -> None:
    with pytest.raises(AssertionError, match="no terminal event") as failed:
        assert_invariants(good().entries)
    assert "executor/w" in str(failed.value)
    assert 'step.completed {"step":"s","output":1}' in str(failed.value)
