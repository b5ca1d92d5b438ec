"""A tail is held against its log: each event once, in order, and the text that stays."""

from __future__ import annotations

import pytest

from mesh import TaskEvent, Text, TextDiscarded
from mesh.log.head import Entry
from mesh.testing import assert_tail, run_local
from tests.testing.shop import report


@pytest.fixture
async def log() -> tuple[Entry, ...]:
    return (await run_local(report, "otters", secrets={"KEY": "k"})).log


def told(log: tuple[Entry, ...]) -> list[TaskEvent]:
    """What a tail tells of a log: its text a little ahead."""
    events = [TaskEvent("", "text", Text(text="found 2 facts. "), "")]
    return events + [TaskEvent("", event.type, event.data, "") for entry in log for event in entry.commit.events]


async def test_a_right_tail_passes(log: tuple[Entry, ...]) -> None:
    assert_tail(told(log), log)


async def test_text_that_was_discarded_does_not_count(log: tuple[Entry, ...]) -> None:
    lost = [TaskEvent("", "text", Text(text="lost"), ""), TaskEvent("", "text.discarded", TextDiscarded(length=4), "")]
    assert_tail(lost + told(log), log)


async def test_an_event_that_is_missing_is_told(log: tuple[Entry, ...]) -> None:
    events = told(log)
    del events[3]
    with pytest.raises(AssertionError, match=r"the log has step\.progress"):
        assert_tail(events, log)


async def test_an_event_that_comes_twice_is_told(log: tuple[Entry, ...]) -> None:
    events = told(log)
    with pytest.raises(AssertionError, match="1 events more"):
        assert_tail([*events, events[-1]], log)


async def test_a_tail_that_ends_early_is_told(log: tuple[Entry, ...]) -> None:
    with pytest.raises(AssertionError, match=r"ends before event .* task.completed"):
        assert_tail(told(log)[:-1], log)


async def test_text_that_was_told_twice_is_told(log: tuple[Entry, ...]) -> None:
    events = told(log)
    with pytest.raises(AssertionError, match="the text of"):
        assert_tail([events[0], *events], log)
