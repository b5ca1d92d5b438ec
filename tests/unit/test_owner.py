"""An owner that has seen that the task is another's writes nothing more, also at the place that it has seen (R6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import Struct

from mesh.log.claim import Claimed
from mesh.log.head import Entry, View, next_commit, view_of
from mesh.log.ops import Drop, Flow
from mesh.log.owner import Fenced, Owner
from mesh.subjects import Subjects
from schemas.envelope import Commit, event
from schemas.task import TaskAccepted, TaskCanceled, TaskCompleted, TaskStarted, TaskSuspended

ACCEPTED = TaskAccepted(agent="a", pool="p", digest="d", sequence=1, at="")


class By:
    """A writer of logs."""

    by = "executor/one"

    def stamp(self) -> tuple[str, str]:
        return "nonce", ""


def grown(view: View, data: Struct) -> tuple[View, Commit]:
    commit = next_commit(view, By(), (event(data),))
    return view_of(Entry(view.seq + 1, commit)), commit


@pytest.fixture
def out() -> Owner:
    """The owner of a task that has just seen the claim of another one."""
    accepted, _ = grown(View("t"), ACCEPTED)
    view, claim = grown(accepted, TaskStarted(wake=0, cover=7, delivery=1, owner="one", attempt=1))
    owner = Owner(Subjects(), By(), Claimed(view, claim))
    taken, _ = grown(view, TaskStarted(wake=0, cover=7, delivery=2, owner="other", attempt=2))
    with pytest.raises(Fenced):
        owner.see(taken)
    return owner


@pytest.mark.parametrize(
    "write",
    [
        lambda owner: owner.suspend((event(TaskSuspended(reason="waiting")),)),
        lambda owner: owner.commit((event(TaskSuspended(reason="waiting")),)),
    ],
    ids=["suspend", "commit"],
)
def test_it_neither_suspends_nor_commits(out: Owner, write: Callable[[Owner], Flow[object]]) -> None:
    with pytest.raises(Fenced):
        next(write(out))


@pytest.mark.parametrize(
    "leave",
    [
        lambda owner: owner.end(TaskCompleted(output=1)),
        lambda owner: owner.end(TaskCanceled()),
        lambda owner: owner.release(),
    ],
    ids=["completed", "canceled", "released"],
)
def test_it_neither_ends_nor_releases_and_sends_no_verb(out: Owner, leave: Callable[[Owner], Flow[object]]) -> None:
    with pytest.raises(StopIteration) as returned:
        next(leave(out))
    assert isinstance(returned.value.value, Drop)
