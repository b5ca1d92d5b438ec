"""The head that each event leads to."""

from __future__ import annotations

import pytest
from msgspec import Struct
from msgspec.structs import replace

from mesh.errors import NewerLog
from mesh.log.head import Entry, View, fold, next_commit, view_of
from schemas.envelope import Head, event
from schemas.error import Error
from schemas.step import StepCompleted, StepFailed, StepRequested, TextAdded
from schemas.task import (
    CUT_OFF,
    CancelRequested,
    MessageReceived,
    TaskAccepted,
    TaskCanceled,
    TaskCompleted,
    TaskFailed,
    TaskRejected,
    TaskReleased,
    TaskResumed,
    TaskStarted,
    TaskSuspended,
)

ERROR = Error(code="handler_error", message="no")
EMPTY = Head()
ACCEPTED = TaskAccepted(agent="a", pool="p", digest="d", sequence=1, at="2026-01-01T00:00:00.000000Z")
STARTED = TaskStarted(wake=0, cover=7, delivery=2, owner="w", attempt=1)
RUNNABLE = Head(phase="runnable")
RUNNING = Head(phase="running", cover=7, delivery=2, claim=1, owner="w", starts=1)
SUSPENDED = Head(phase="suspended", claim=1, not_apps=("1",))


class Stamps:
    by = "router/r"

    def stamp(self) -> tuple[str, str]:
        return "nonce", "2026-01-01T00:00:00.000000Z"


def after(head: Head, *data: Struct, n: int = 5, by: str = "executor/w") -> Head:
    return fold(head, n, by, tuple(event(one) for one in data))


def test_an_accepted_task_is_runnable_with_wake_0() -> None:
    assert after(EMPTY, ACCEPTED, n=0, by="router/r") == RUNNABLE


def test_a_task_with_a_parent_must_tell_its_end() -> None:
    assert after(EMPTY, replace(ACCEPTED, parent="p"), n=0, by="router/r").tell


def test_a_claim_names_owner_cover_delivery_and_its_own_commit() -> None:
    assert after(RUNNABLE, STARTED, n=1) == RUNNING


def test_claims_without_progress_are_counted_and_progress_clears_the_count() -> None:
    twice = after(RUNNING, STARTED)
    assert twice.starts == 2
    assert after(twice, TextAdded(text="x", offset=0, attempt=2)).starts == 0


def test_what_others_append_is_no_progress_of_the_owner() -> None:
    assert after(RUNNING, MessageReceived(id="m"), by="router/r").starts == 1


def test_a_release_takes_its_start_back_and_keeps_the_wake() -> None:
    released = after(RUNNING, TaskReleased(), n=9)
    assert released == replace(RUNNING, starts=0, owner="", claim=9)


def test_a_task_that_is_handed_on_is_counted_apart_until_an_owner_comes_further() -> None:
    handed_on = after(RUNNING, TaskReleased(reason=CUT_OFF), n=9, by="router/r")
    assert handed_on == replace(RUNNING, starts=0, owner="", claim=9, cut_offs=1)
    assert after(after(handed_on, STARTED), TextAdded(text="x", offset=0, attempt=2)).cut_offs == 0


def test_a_head_says_whether_its_task_has_a_deadline() -> None:
    assert after(EMPTY, replace(ACCEPTED, deadline_s=1.0), n=0, by="router/r").deadline
    assert not RUNNABLE.deadline


def test_an_owner_that_released_holds_the_task_no_more() -> None:
    assert after(RUNNING, TaskReleased(), n=9).claim != RUNNING.claim


def test_a_suspension_closes_the_wake() -> None:
    assert after(RUNNING, TaskSuspended(reason="nondeterministic", not_apps=("1",))) == SUSPENDED


@pytest.mark.parametrize(
    "wakes",
    [
        CancelRequested(id="c"),
        MessageReceived(id="m"),
        StepCompleted(step="s"),
        StepFailed(step="s", error=ERROR),
        TaskResumed(),
    ],
)
def test_what_comes_to_a_suspended_task_wakes_it(wakes: Struct) -> None:
    woken = after(SUSPENDED, wakes, n=8, by="router/r")
    assert (woken.phase, woken.wake) == ("runnable", 8)
    assert woken.cancel == isinstance(wakes, CancelRequested)
    assert woken.not_apps == ("1",)


@pytest.mark.parametrize("head", [RUNNABLE, RUNNING])
def test_a_cancel_of_an_awake_task_only_sets_its_mark(head: Head) -> None:
    assert after(head, CancelRequested(id="c"), by="router/r") == replace(head, cancel=True, cancel_id="c")


def test_two_answers_in_one_suspension_make_one_wake() -> None:
    once = after(SUSPENDED, MessageReceived(id="1"), n=4, by="router/r")
    assert after(once, MessageReceived(id="2"), n=5, by="router/r") == once


def test_a_resumed_task_is_held_by_nobody() -> None:
    resumed = after(RUNNING, TaskResumed(), n=6, by="router/r")
    assert resumed == replace(RUNNING, phase="runnable", wake=6, cover=0, delivery=0, owner="")


@pytest.mark.parametrize(
    "end",
    [
        TaskCompleted(),
        TaskFailed(error=ERROR),
        TaskCanceled(),
        TaskRejected(error=ERROR, digest="d", sequence=1),
    ],
)
@pytest.mark.parametrize("head", [EMPTY, RUNNABLE, RUNNING, SUSPENDED])
def test_every_terminal_event_ends_a_task_in_any_phase(head: Head, end: Struct) -> None:
    ended = after(head, end)
    assert (ended.phase, ended.owner) == ("ended", "")


def test_nothing_follows_the_end() -> None:
    with pytest.raises(ValueError, match="terminal"):
        after(Head(phase="ended"), CancelRequested(id="c"))


def test_the_events_of_one_commit_are_folded_in_order() -> None:
    ended = after(RUNNABLE, CancelRequested(id="c"), TaskCanceled(), by="router/r")
    assert (ended.phase, ended.cancel) == ("ended", True)


def test_a_step_request_changes_nothing() -> None:
    request = StepRequested(step="s", kind="code", name="s")
    assert after(RUNNING, request) == replace(RUNNING, starts=0)


def test_commits_are_counted_from_0_and_name_the_first_one() -> None:
    opening = next_commit(View("t"), Stamps(), (event(ACCEPTED),))
    assert (opening.n, opening.first, opening.head.phase) == (0, 0, "runnable")
    view = view_of(Entry(12, opening))
    assert (view.first, view.seq, view.n) == (12, 12, 0)
    following = next_commit(view, Stamps(), (event(STARTED),))
    assert (following.n, following.first) == (1, 12)


def test_a_log_of_a_newer_version_is_not_continued() -> None:
    view = View("t", 12, 0, 12, RUNNABLE, 7)
    with pytest.raises(NewerLog, match="version 7"):
        next_commit(view, Stamps(), (event(STARTED),))
