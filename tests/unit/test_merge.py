"""Every reader of a task sees each event once and in order, and the text as the log has it.

A state machine writes a log as executors do, sends deltas that may be lost, doubled or come late, and lets a reader
follow; from the cursor of any event of that reader another one goes on.
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mesh.errors import InvalidInput
from mesh.log import cursor as cursors
from mesh.log.head import Entry
from mesh.log.merge import DISCARDED, TEXT, Merge, TaskEvent, Text, TextDiscarded
from schemas.delta import Delta
from schemas.envelope import Commit, Event, Head, event
from schemas.error import Error
from schemas.message import Message, Part
from schemas.step import EventAdded, StepCompleted, StepFailed, Streamed, TextAdded
from schemas.task import TaskAccepted, TaskCompleted, TaskStarted

AT = "2026-01-01T00:00:00.000000Z"
ALPHABET = st.text("abcxyzäπ🦦", min_size=1, max_size=6)


class Told:
    """What a reader was told: log events, and the text less what was discarded."""

    def __init__(self, log: tuple[tuple[int, int], ...] = (), text: str = "") -> None:
        self.log = list(log)
        self.text = text

    def take(self, one: TaskEvent) -> None:
        if one.type == TEXT:
            assert isinstance(one.data, Text)
            assert one.data.text
            self.text += one.data.text
        elif one.type == DISCARDED:
            assert isinstance(one.data, TextDiscarded)
            assert 0 < one.data.length <= len(self.text)
            self.text = self.text[: -one.data.length]
        else:
            position = cursors.decode(one.cursor)
            self.log.append((position.seq, position.events - 1))


class Tailing(RuleBasedStateMachine):
    """One task: its log, the deltas on their way, a reader, and where the reader stood after each event."""

    @initialize()
    def accept(self) -> None:
        self.log: list[Entry] = []
        self.kept = ""
        self.pending = ""
        self.claims = 0
        self.sent: list[Delta] = []
        self.ended = False
        self.read = 0
        self.reader = Merge()
        self.told = Told()
        self.marks: list[tuple[str, tuple[tuple[int, int], ...], str, int]] = []
        self.append(event(TaskAccepted(agent="a", pool="p", digest="d", sequence=1, at=AT)))

    def append(self, *events: Event) -> None:
        n = len(self.log)
        seq = 3 * n + 5
        commit = Commit(v=1, task="t", n=n, nonce=f"{n}", by="executor/w", at=AT, head=Head(), events=events, first=5)
        self.log.append(Entry(seq, commit))

    def hear(self, events: list[TaskEvent]) -> None:
        for one in events:
            self.told.take(one)
            self.marks.append((one.cursor, tuple(self.told.log), self.told.text, self.read))

    @precondition(lambda self: not self.ended)
    @rule()
    def an_executor_claims_and_what_the_last_one_had_not_committed_is_lost(self) -> None:
        self.claims += 1
        self.pending = ""
        self.append(event(TaskStarted(wake=0, cover=1, owner=f"w{self.claims}", attempt=1)))

    @precondition(lambda self: not self.ended and self.claims)
    @rule(text=ALPHABET)
    def the_handler_streams_text(self, text: str) -> None:
        offset = len(self.kept) + len(self.pending)
        self.sent.append(Delta(v=1, task="t", attempt=self.claims, offset=offset, text=text, at=0.0))
        self.pending += text

    @precondition(lambda self: not self.ended and self.claims > 1)
    @rule(text=ALPHABET, ahead=st.integers(0, 9))
    def a_fenced_executor_wakes_up_and_streams(self, text: str, ahead: int) -> None:
        offset = min(len(self.kept), ahead)
        self.sent.append(Delta(v=1, task="t", attempt=self.claims - 1, offset=offset, text=text, at=0.0))

    @precondition(lambda self: not self.ended and self.claims)
    @rule(more=st.booleans(), ends=st.booleans())
    def the_owner_commits(self, more: bool, ends: bool) -> None:
        events = [event(TextAdded(text=self.pending, offset=len(self.kept), attempt=self.claims))] * bool(self.pending)
        self.kept, self.pending = self.kept + self.pending, ""
        if more:
            events += [event(EventAdded(name="x")), event(StepCompleted(step="s"))]
        if ends:
            self.ended = True
            events.append(event(TaskCompleted()))
        if events:
            self.append(*events)

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(min_value=0), again=st.booleans())
    def a_delta_arrives_in_any_order_perhaps_twice(self, which: int, again: bool) -> None:
        index = which % len(self.sent)
        delta = self.sent[index] if again else self.sent.pop(index)
        self.hear(self.reader.delta(delta))

    @precondition(lambda self: self.sent)
    @rule()
    def the_oldest_delta_arrives(self) -> None:
        self.hear(self.reader.delta(self.sent.pop(0)))

    @precondition(lambda self: self.sent)
    @rule()
    def the_oldest_delta_is_lost(self) -> None:
        self.sent.pop(0)

    @rule(back=st.integers(0, 3))
    def the_reader_reads_on_perhaps_from_before_where_it_stands(self, back: int) -> None:
        begin = max(0, self.read - back)
        for entry in self.log[begin : self.read + 1]:
            self.read = max(self.read, self.log.index(entry) + 1)
            self.hear(self.reader.commit(entry))

    @precondition(lambda self: self.marks)
    @rule(which=st.integers(min_value=0))
    def the_reader_goes_on_elsewhere_from_any_earlier_cursor(self, which: int) -> None:
        del self.marks[which % len(self.marks) + 1 :]
        cursor, log, text, read = self.marks[-1]
        self.reader, self.told = Merge(cursor), Told(log, text)
        self.read = max(0, read - 1)

    @invariant()
    def every_event_was_told_once_and_in_order(self) -> None:
        if hasattr(self, "log"):
            whole = [(entry.seq, index) for entry in self.log for index in range(len(entry.commit.events))]
            assert self.told.log == whole[: len(self.told.log)]

    @invariant()
    def once_all_is_read_and_the_task_has_ended_the_text_is_that_of_the_log(self) -> None:
        if not hasattr(self, "log") or not self.ended:
            return
        for cursor, log, text, _ in [*self.marks[-3:], *self.marks[:1]]:
            merge, told = Merge(cursor), Told(log, text)
            for entry in self.log:
                for one in merge.commit(entry):
                    told.take(one)
            assert merge.ended
            assert told.text == self.kept
            assert len(told.log) == sum(len(entry.commit.events) for entry in self.log)


TestTailing = Tailing.TestCase
TestTailing.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


def entry(seq: int, n: int, *events: Event) -> Entry:
    commit = Commit(v=1, task="t", n=n, nonce="x", by="executor/w", at=AT, head=Head(), events=events)
    return Entry(seq, commit)


def delta(attempt: int, offset: int, text: str) -> Delta:
    return Delta(v=1, task="t", attempt=attempt, offset=offset, text=text, at=0.0)


STARTED = event(TaskStarted(wake=0, cover=1, owner="w", attempt=1))


def test_text_of_a_dead_attempt_is_discarded_when_the_next_one_claims() -> None:
    merge = Merge()
    merge.commit(entry(5, 1, STARTED))
    merge.delta(delta(1, 0, "lost"))
    told = merge.commit(entry(8, 2, STARTED))
    assert [one.type for one in told] == [DISCARDED, "task.started"]
    assert told[0].data.length == 4


def test_a_fenced_worker_that_wakes_up_late_is_not_heard() -> None:
    merge = Merge()
    merge.commit(entry(5, 1, STARTED))
    merge.commit(entry(8, 2, STARTED))
    assert merge.delta(delta(1, 0, "what a fenced worker says")) == []


def test_a_reader_that_resumes_does_not_hear_a_fenced_worker_either() -> None:
    merge = Merge()
    merge.commit(entry(5, 1, STARTED))
    (started,) = merge.commit(entry(8, 2, STARTED))
    assert Merge(started.cursor).delta(delta(1, 0, "what a fenced worker says")) == []


def test_a_delta_ahead_of_the_text_waits_for_it() -> None:
    merge = Merge()
    merge.commit(entry(5, 1, STARTED))
    assert merge.delta(delta(1, 2, "cd")) == []
    assert merge.missing
    assert [one.data.text for one in merge.delta(delta(1, 0, "ab"))] == ["ab"]
    told = merge.commit(entry(8, 2, event(EventAdded(name="x"))))
    assert [one.type for one in told] == ["event.added", TEXT]
    assert told[1].data.text == "cd"


def test_a_cursor_that_is_none_of_ours_is_refused() -> None:
    for text in ("", "x", "1-", "2-1.1.0", "1-1", "1-a.b.c", "1-1.1.0~x", "1-1.1.0~a:b:c:d:e"):
        with pytest.raises(InvalidInput):
            Merge(text or "-")


def step_delta(text: str, *, part: int = 0, attempt: int = 1, kind: str = "text") -> Delta:
    return Delta(v=1, task="t", attempt=attempt, offset=0, text=text, at=0.0, step="model", part=part, kind=kind)


def answer(text: str, *, attempt: int = 1) -> Event:
    message = Message(role="assistant", parts=(Part(kind="text", text=text),))
    output = msgspec.to_builtins(message)
    return event(StepCompleted(step="model", attempt=attempt, output=output, streamed=(Streamed(0),)))


def log_entry(seq: int, *events: Event) -> Entry:
    return Entry(seq, Commit(v=1, task="t", n=seq, nonce=f"{seq}", by="w", at=AT, head=Head(), events=events))


def test_a_delta_that_comes_after_its_step_has_ended_tells_nothing() -> None:
    merge = Merge()
    merge.commit(log_entry(1, answer("hello")))
    assert merge.delta(step_delta("hello")) == []


def test_text_of_a_failed_step_is_taken_back() -> None:
    merge = Merge()
    merge.delta(step_delta("half an ans"))
    told = merge.commit(log_entry(1, event(StepFailed(step="model", error=Error(code="x", message="cut")))))
    assert [one.data for one in told if one.type == DISCARDED] == [TextDiscarded(length=11, step="model")]


def test_what_an_earlier_attempt_told_in_a_part_that_the_last_one_lacks_is_taken_back() -> None:
    merge = Merge()
    merge.delta(step_delta("a thought", part=0, kind="reasoning"))
    merge.delta(step_delta("wrong", part=1))
    merge.delta(step_delta("right", part=0, attempt=2))
    told = merge.commit(log_entry(1, answer("right", attempt=2)))
    assert [one.data for one in told if one.type == DISCARDED] == [TextDiscarded(length=5, step="model", part=1)]


def test_reasoning_stays_told_when_its_step_completes() -> None:
    merge = Merge()
    merge.delta(step_delta("a thought", part=1, kind="reasoning"))
    told = merge.commit(log_entry(1, answer("right")))
    assert [one.type for one in told] == [TEXT, "step.completed"]


def test_the_text_of_an_answer_is_told_before_its_event_as_far_as_no_delta_told_it() -> None:
    merge = Merge()
    first = merge.delta(step_delta("half an "))
    told = merge.commit(log_entry(1, answer("half an answer"), event(StepCompleted(step="code", output=5))))
    assert [one.type for one in told] == [TEXT, "step.completed", "step.completed"]
    assert told[0].data == Text(text="answer", step="model")
    resumed = Merge(first[0].cursor).commit(log_entry(1, answer("half an answer")))
    assert [one.data for one in resumed][:1] == [Text(text="answer", step="model")]
    again = Merge(told[0].cursor).commit(log_entry(1, answer("half an answer")))
    assert [one.type for one in again] == ["step.completed"]


def test_an_answer_of_a_later_form_has_no_text_and_breaks_no_reader() -> None:
    odd = event(StepCompleted(step="model", output={"role": 5}, streamed=(Streamed(0),)))
    beyond = event(StepCompleted(step="model#2", output={"role": "assistant"}, streamed=(Streamed(9),)))
    assert [one.type for one in Merge().commit(log_entry(1, odd, beyond))] == ["step.completed"] * 2
