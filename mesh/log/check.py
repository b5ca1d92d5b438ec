"""The invariants of one log, as violations a person can read.

Pure, and written without the functions that writers decide with, `fold` excepted: what it holds against a log is what
`docs/delivery.md` promises. Tests end with it, and an operator may run it over any log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mesh.log.head import EXECUTOR, ROUTER, Entry, fold
from mesh.log.journal import WAITING
from mesh.log.texts import texts_in
from schemas import error as codes
from schemas import step, task
from schemas.envelope import Commit, Event, Head
from schemas.step import StepCompleted, StepFailed, StepRequested, StepStarted, TextAdded
from schemas.task import CUT_OFF, CancelRequested, MessageReceived, TaskFailed, TaskReleased, TaskStarted, TaskSuspended

OPENINGS = frozenset({task.ACCEPTED, task.REJECTED, task.CANCELED})
ONLY_FIRST = frozenset({task.ACCEPTED, task.REJECTED})
OWNERS_ALONE = frozenset(
    {task.COMPLETED, task.SUSPENDED, task.RELEASED, step.TEXT_ADDED, step.EVENT_ADDED, step.ARTIFACT_ADDED}
)


def check_log(entries: Sequence[Entry], *, ended: bool = True) -> list[str]:
    """Every way in which a log breaks its invariants; none for a good one.

    With `ended` False the task may still be under way.
    """
    if not entries:
        return ["the log is empty"]
    violations = [*_chain(entries), *_ends(entries, ended=ended), *_ownership(entries)]
    story = _Story()
    for entry in entries:
        for event in entry.commit.events:
            violations += [f"{_place(entry)}: {what}" for what in story.tell(event)]
    return violations


def _chain(entries: Sequence[Entry]) -> Iterator[str]:
    """One writer after the other: numbers, sequences, and each head the fold of what came before."""
    first, head, seq = entries[0].seq, Head(), 0
    nonces: set[str] = set()
    for n, entry in enumerate(entries):
        commit = entry.commit
        if commit.n != n:
            yield f"{_place(entry)}: n is {commit.n} where {n} is due"
        if commit.task != entries[0].commit.task:
            yield f"{_place(entry)}: belongs to task '{commit.task}'"
        if commit.first != (0 if n == 0 else first):
            yield f"{_place(entry)}: first is {commit.first}, and commit 0 stands at {first}"
        if entry.seq <= seq:
            yield f"{_place(entry)}: stands at {entry.seq}, not after {seq}"
        if commit.nonce in nonces:
            yield f"{_place(entry)}: the nonce was used before, so this commit stands twice"
        yield from (f"{_place(entry)}: {what}" for what in _head(head, commit))
        head, seq = commit.head, entry.seq
        nonces.add(commit.nonce)


def _head(before: Head, commit: Commit) -> Iterator[str]:
    if not commit.events:
        yield "holds no event"
        return
    try:
        expected = fold(before, commit.n, commit.by, commit.events)
    except ValueError:
        yield "comes after the end of the task"
    else:
        if commit.head != expected:
            yield f"its head is {commit.head}, its events give {expected}"


def _ends(entries: Sequence[Entry], *, ended: bool) -> Iterator[str]:
    events = [(entry, event) for entry in entries for event in entry.commit.events]
    if events and events[0][1].type not in OPENINGS:
        yield f"the log begins with {events[0][1].type}"
    yield from (f"{_place(entry)}: {event.type} again" for entry, event in events[1:] if event.type in ONLY_FIRST)
    terminal = [index for index, (_, event) in enumerate(events) if event.type in task.TERMINAL]
    if len(terminal) > 1:
        yield f"{len(terminal)} terminal events: {', '.join(events[index][1].type for index in terminal)}"
    elif terminal and terminal[0] != len(events) - 1:
        yield f"{events[terminal[0] + 1][1].type} follows the terminal event"
    elif ended and not terminal:
        yield f"no terminal event; the last one is {events[-1][1].type if events else 'none'}"


def _ownership(entries: Sequence[Entry]) -> Iterator[str]:
    """Claims take over in order, and nobody but the newest claimant writes as the owner."""
    before = Head()
    for entry in entries:
        commit = entry.commit
        for event in commit.events:
            if isinstance(event.data, TaskStarted):
                yield from (f"{_place(entry)}: {what}" for what in _claim(before, commit, event.data))
        owned = before.phase == "running" and commit.by == f"{EXECUTOR}/{before.owner}"
        if not owned and commit.events and commit.events[0].type != task.STARTED and _as_owner(commit):
            owner = before.owner or "nobody"
            yield f"{_place(entry)}: written by {commit.by}, and the owner is {owner} ({before.phase})"
        before = commit.head


def _as_owner(commit: Commit) -> bool:
    last = commit.events[-1].data
    if isinstance(last, TaskReleased) and last.reason == CUT_OFF and commit.by.startswith(ROUTER):
        return False
    if any(event.type in OWNERS_ALONE for event in commit.events):
        return True
    given_up = isinstance(last, TaskFailed) and last.error.code == codes.ATTEMPTS_EXHAUSTED
    return commit.by.startswith(EXECUTOR) and not given_up


def _claim(before: Head, commit: Commit, started: TaskStarted) -> Iterator[str]:
    if before.phase not in ("runnable", "running"):
        yield f"a claim while the task was {before.phase}"
    if commit.by != f"{EXECUTOR}/{started.owner}":
        yield f"{commit.by} claims for {started.owner}"
    if started.wake != before.wake:
        yield f"the claim serves wake {started.wake}, open is {before.wake}"
    if started.attempt != before.starts + 1:
        yield f"attempt {started.attempt} follows {before.starts} starts without progress"
    if before.phase == "running" and started.cover != before.cover:
        yield f"a take-over under command {started.cover}; the task runs under {before.cover}"
    if before.phase == "running" and started.delivery < before.delivery:
        yield f"delivery {started.delivery} takes over from the later delivery {before.delivery}"


class _Story:
    """What a log has said so far of steps, text and signals."""

    def __init__(self) -> None:
        self._requested: dict[str, StepRequested] = {}
        self._started: dict[str, StepStarted] = {}
        self._results: set[str] = set()
        self._text: dict[tuple[str, int], tuple[int, int]] = {}
        self._signals: set[str] = set()
        self._canceled = False

    def tell(self, event: Event) -> Iterator[str]:
        data = event.data
        if isinstance(data, StepRequested):
            if data.step in self._requested:
                yield f"step '{data.step}' is requested again"
            self._requested[data.step] = data
        elif isinstance(data, StepStarted):
            yield from self._start(data)
        elif isinstance(data, StepCompleted | StepFailed):
            yield from self._result(data)
        elif isinstance(data, CancelRequested | MessageReceived):
            if data.id in self._signals:
                yield f"task signal '{data.id}' is taken twice"
            self._signals.add(data.id)
            self._canceled = self._canceled or isinstance(data, CancelRequested)
        elif isinstance(data, TaskSuspended) and data.reason == WAITING and not self._requested.keys() - self._results:
            yield "the task waits, and nothing is open that could wake it"
        for added in texts_in(data):
            yield from self._add(added)

    def _start(self, data: StepStarted) -> Iterator[str]:
        request = self._requested.get(data.step)
        if request is None:
            yield f"step '{data.step}' starts and was never requested"
        elif data.step in self._results:
            yield f"step '{data.step}' starts after its result"
        before = self._started.get(data.step)
        if before is None:
            self._started[data.step] = data
            return
        # A runner may go on itself after a failure that the tool reported; nobody else may.
        same = before.by and (before.by, before.cover, before.delivery) == (data.by, data.cover, data.delivery)
        if request is not None and not request.idempotent and not same:
            yield f"step '{data.step}' must not be repeated and starts again"
        if data.attempt <= before.attempt:
            yield f"step '{data.step}' starts as attempt {data.attempt} after {before.attempt}"
        else:
            self._started[data.step] = data

    def _result(self, data: StepCompleted | StepFailed) -> Iterator[str]:
        request = self._requested.get(data.step)
        if request is None:
            yield f"step '{data.step}' has a result and was never requested"
        elif not request.idempotent and data.step not in self._started and not self._was_left_alone(data):
            yield f"step '{data.step}' must not be repeated and has a result without a start"
        if data.step in self._results:
            yield f"step '{data.step}' has a second result"
        self._results.add(data.step)

    def _was_left_alone(self, data: StepCompleted | StepFailed) -> bool:
        """Whether it may never have begun: its task was asked to stop before."""
        return self._canceled and isinstance(data, StepFailed) and data.error.code == codes.TOOL_FAILED

    def _add(self, data: TextAdded) -> Iterator[str]:
        end, attempt = self._text.get((data.step, data.part), (0, 0))
        if data.attempt < attempt:
            yield f"text of attempt {data.attempt} after text of attempt {attempt}"
        if data.offset != end and not (data.step and data.offset == 0 and data.attempt > attempt):
            yield f"text at offset {data.offset}, and {end} characters stand before it"
        self._text[data.step, data.part] = (data.offset + len(data.text), data.attempt)


def _place(entry: Entry) -> str:
    return f"commit {entry.commit.n} (at {entry.seq}, by {entry.commit.by})"
