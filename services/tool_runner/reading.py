"""The logs of tasks whose calls are under way here, each read once for all of its calls.

A turn with thousands of calls makes a log with thousands of commits. A call needs of it what concerns its own step, and
the newest head; were each to read all, their number would count twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec.structs import replace

from mesh.log.head import Entry, View, view_of
from mesh.log.ops import Append, Conflict, Flow, Op, ReadAfter, Stored, T, drive
from schemas.envelope import Event
from schemas.step import StepCompleted, StepFailed, StepRequested, StepStarted


class TaskLogs:
    """Drives the flows of tool calls; what they read of a log is kept as long as a call of its task is under way."""

    def __init__(self, answer: Callable[[Op], Awaitable[Any]]) -> None:
        self._ask = answer
        self._logs: dict[str, _Log] = {}
        self._users: dict[str, int] = {}

    @contextmanager
    def keeping(self, task: str) -> Iterator[None]:
        """A call of this task is under way in this block."""
        self._users[task] = self._users.get(task, 0) + 1
        try:
            yield
        finally:
            self._users[task] -= 1
            if not self._users[task]:
                del self._users[task]
                self._logs.pop(task, None)

    def seen(self, task: str) -> int:
        """How far a log has been read; 0 for none."""
        log = self._logs.get(task)
        return log.seq if log else 0

    def newer(self, view: View, step: str) -> View:
        """The log as it was read last, unless there is something in it that concerns the step or ends the task."""
        log = self._logs.get(view.task)
        news = log.of(step, view.seq) if log else ()
        if not news or news[0].commit.events or news[-1].commit.head.phase == "ended":
            return view
        return view_of(news[-1])

    async def drive(self, flow: Flow[T]) -> T:
        """Runs a flow to its end."""
        return await drive(flow, self._answer)

    async def _answer(self, op: Op) -> Any:
        if isinstance(op, ReadAfter) and op.step:
            return await self._read(op)
        answer = await self._ask(op)
        if isinstance(op, Append) and (log := self._logs.get(op.commit.task)):
            if isinstance(answer, Stored) and op.expected == log.seq:
                log.take((Entry(answer.seq, op.commit),))
            elif isinstance(answer, Conflict) and answer.last < log.seq:
                del self._logs[op.commit.task]  # it is away, or another one by now
        return answer

    async def _read(self, op: ReadAfter) -> tuple[Entry, ...]:
        log = self._logs.get(op.task)
        if log is None or op.after < log.base:
            log = _Log(op.after)
            if op.task in self._users:
                self._logs[op.task] = log
        log.take(await self._ask(ReadAfter(op.task, log.seq, 0)))
        return log.of(op.step, op.after)


class _Log:
    """What came after `base`, up to `seq`, by step."""

    def __init__(self, base: int) -> None:
        self.base = self.seq = base
        self._newest: Entry | None = None
        self._steps: dict[str, list[Entry]] = {}

    def take(self, entries: Iterable[Entry]) -> None:
        """Takes what came since; what was read twice counts once."""
        for entry in entries:
            if entry.seq <= self.seq:
                continue
            self.seq, self._newest = entry.seq, _only(entry)
            for event in entry.commit.events:
                if isinstance(event.data, StepRequested | StepStarted | StepCompleted | StepFailed):
                    self._steps.setdefault(event.data.step, []).append(_only(entry, _without_values(event)))

    def of(self, step: str, after: int) -> tuple[Entry, ...]:
        """The commits after this one that concern the step, and the newest of all."""
        found = [entry for entry in self._steps.get(step, ()) if entry.seq > after]
        if self._newest and self._newest.seq > max(after, found[-1].seq if found else 0):
            found.append(self._newest)
        return tuple(found)


def _only(entry: Entry, *events: Event) -> Entry:
    return Entry(entry.seq, replace(entry.commit, events=events))


def _without_values(event: Event) -> Event:
    """What a step was given and gave may be large, and its runner does not look at it here."""
    data = event.data
    if isinstance(data, StepRequested):
        data = replace(data, input=None, input_ref=None)
    elif isinstance(data, StepCompleted):
        data = replace(data, output=None, output_ref=None)
    return Event(event.type, data)
