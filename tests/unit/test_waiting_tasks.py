"""What `mesh show`, `mesh run` and `mesh tail` say of a task that does not move."""

from __future__ import annotations

import pytest
from msgspec import Struct

from mesh.cli.waiting import waits_for
from mesh.log.head import Entry, View, next_commit, view_of
from mesh.registry import Registry
from schemas.agent import WorkerRecord
from schemas.envelope import event
from schemas.step import StepCompleted, StepRequested
from schemas.task import TaskAccepted, TaskCompleted, TaskRejected, TaskStarted, TaskSuspended
from tests.unit.test_head import ERROR

ACCEPTED = TaskAccepted(agent="a", pool="p", digest="d", sequence=1, at="2026-01-01T00:00:00.000000Z")
STARTED = TaskStarted(wake=0, cover=7, delivery=1, owner="executor-1", attempt=1)
CALLED = StepRequested(step="pay", kind="tool", name="pay")
WAITING = TaskSuspended(reason="waiting")


class Stamps:
    by = "executor/executor-1"

    def stamp(self) -> tuple[str, str]:
        return "nonce", "2026-01-01T00:00:00.000000Z"


def log(*events: Struct) -> list[Entry]:
    entries: list[Entry] = []
    view = View("t")
    for data in events:
        entries.append(Entry(len(entries) + 1, next_commit(view, Stamps(), (event(data),))))
        view = view_of(entries[-1])
    return entries


def at_work(*names: str, pool: str = "p") -> Registry:
    workers = [WorkerRecord(v=1, worker=one, service=one.rpartition("-")[0], pool=pool) for one in names]
    return Registry(workers=tuple(workers))


@pytest.mark.parametrize(
    ("events", "workers", "told"),
    [
        ((ACCEPTED,), (), "it waits: no worker serves pool p now; start one with `mesh service executor`"),
        ((ACCEPTED,), ("executor-2",), "it waits for an executor of pool p: 1 at work"),
        (
            (ACCEPTED, STARTED),
            ("tool-runner-1",),
            "it waits: its worker executor-1 has gone, and no other serves pool p; start one with "
            "`mesh service executor`",
        ),
        (
            (ACCEPTED, STARTED, CALLED, WAITING),
            ("executor-1",),
            "it waits for pay: nobody runs the tools of pool p; start one with `mesh service tool-runner`",
        ),
    ],
)
def test_a_task_says_whom_it_waits_for(events: tuple[Struct, ...], workers: tuple[str, ...], told: str) -> None:
    assert waits_for(log(*events), at_work(*workers)) == told


@pytest.mark.parametrize(
    ("events", "workers"),
    [
        ((ACCEPTED, STARTED), ("executor-1",)),
        ((ACCEPTED, STARTED), ("executor-2",)),  # which takes over
        ((ACCEPTED, STARTED, CALLED, WAITING), ("executor-1", "tool-runner-1")),
        ((ACCEPTED, STARTED, CALLED, StepCompleted(step="pay")), ("executor-1",)),
        ((ACCEPTED, STARTED, TaskCompleted()), ()),
        ((TaskRejected(error=ERROR, digest="d", sequence=1),), ()),
    ],
)
def test_a_task_for_which_nobody_is_missing_says_nothing(events: tuple[Struct, ...], workers: tuple[str, ...]) -> None:
    assert waits_for(log(*events), at_work(*workers)) is None


def test_workers_of_another_pool_are_of_no_use() -> None:
    assert waits_for(log(ACCEPTED), at_work("executor-2", pool="other"))
    assert waits_for(log(ACCEPTED, STARTED, CALLED), at_work("executor-1", "tool-runner-1", pool="other"))
