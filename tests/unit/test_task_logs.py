"""A tool runner reads the log of a task once for all of its calls there."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.log.head import Entry, view_of
from mesh.log.ops import Append, Conflict, Flow, Op, ReadAfter, Stored
from schemas.envelope import Commit, Event, Head, event
from schemas.step import StepCompleted, StepRequested, StepStarted
from services.tool_runner.reading import TaskLogs


class Log:
    """Commits at every second sequence, and what was read of them."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.read: list[int] = []

    def commit(self, *events: Event, phase: str = "running") -> Commit:
        n = len(self.entries)
        head = Head(phase=phase)
        return Commit(v=1, task="t", n=n, nonce=f"{n}", by="x", at="", head=head, events=events, first=2 * bool(n))

    def add(self, *events: Event, phase: str = "running") -> None:
        self.entries.append(Entry(2 * len(self.entries) + 2, self.commit(*events, phase=phase)))

    async def answer(self, op: Op) -> Any:
        if isinstance(op, ReadAfter):
            found = tuple([entry for entry in self.entries if entry.seq > op.after])
            self.read += [entry.seq for entry in found]
            return found
        assert isinstance(op, Append)
        last = self.entries[-1].seq if self.entries else 0
        if op.expected != last:
            return Conflict(last)
        self.add(*op.commit.events)
        return Stored(self.entries[-1].seq)


def asks(op: Op) -> Flow[Any]:
    return (yield op)


def requested(step: str) -> Event:
    return event(StepRequested(step=step, kind="tool", name="tool", input="large"))


def steps(entries: tuple[Entry, ...]) -> list[Any]:
    return [one.data for entry in entries for one in entry.commit.events]


@pytest.fixture
def log() -> Log:
    log = Log()
    log.add(requested("a"), requested("b"))
    log.add(event(StepStarted(step="a", attempt=1)))
    return log


async def test_a_call_is_shown_its_own_step_and_the_newest_head(log: Log) -> None:
    logs = TaskLogs(log.answer)
    with logs.keeping("t"):
        found = await logs.drive(asks(ReadAfter("t", 1, 0, "b")))
        assert steps(found) == [StepRequested(step="b", kind="tool", name="tool")]
        assert view_of(found[-1]) == view_of(log.entries[-1])
        assert steps(await logs.drive(asks(ReadAfter("t", 2, 0, "a")))) == [StepStarted(step="a", attempt=1)]


async def test_what_was_read_or_appended_here_is_not_read_again(log: Log) -> None:
    logs = TaskLogs(log.answer)
    ends = event(StepCompleted(step="b", output="large"))
    with logs.keeping("t"):
        await logs.drive(asks(ReadAfter("t", 1, 0, "a")))
        await logs.drive(asks(Append(log.commit(ends), 4)))
        log.add(event(StepCompleted(step="a")))
        found = await logs.drive(asks(ReadAfter("t", 1, 0, "b")))
        assert log.read == [2, 4, 8]
        assert steps(found)[-1] == StepCompleted(step="b")
        assert logs.seen("t") == 8


async def test_nothing_is_kept_when_no_call_is_under_way(log: Log) -> None:
    logs = TaskLogs(log.answer)
    with logs.keeping("t"):
        with logs.keeping("t"):
            await logs.drive(asks(ReadAfter("t", 1, 0, "a")))
        assert logs.seen("t") == 4
    assert logs.seen("t") == 0
    await logs.drive(asks(ReadAfter("t", 1, 0, "a")))
    assert logs.seen("t") == 0


async def test_a_log_that_is_away_is_forgotten(log: Log) -> None:
    logs = TaskLogs(log.answer)
    with logs.keeping("t"):
        await logs.drive(asks(ReadAfter("t", 1, 0, "a")))
        log.entries.clear()
        await logs.drive(asks(Append(log.commit(requested("c")), 4)))
        assert await logs.drive(asks(ReadAfter("t", 1, 0, "a"))) == ()


async def test_a_view_moves_on_only_over_what_concerns_others(log: Log) -> None:
    logs = TaskLogs(log.answer)
    begun = view_of(log.entries[-1])
    assert logs.newer(begun, "a") is begun
    with logs.keeping("t"):
        log.add(event(StepStarted(step="b", attempt=1)))
        await logs.drive(asks(ReadAfter("t", 1, 0, "a")))
        assert logs.newer(begun, "a") == view_of(log.entries[-1])
        assert logs.newer(begun, "b") is begun
        log.add(event(StepCompleted(step="c")), phase="ended")
        await logs.drive(asks(ReadAfter("t", 1, 0, "a")))
        assert logs.newer(begun, "a") is begun


async def test_a_call_that_asks_for_more_than_was_read_is_shown_it(log: Log) -> None:
    logs = TaskLogs(log.answer)
    with logs.keeping("t"):
        await logs.drive(asks(ReadAfter("t", 3, 0, "a")))
        found = await logs.drive(asks(ReadAfter("t", 1, 0, "a")))
    assert [type(data) for data in steps(found)] == [StepRequested, StepStarted]
