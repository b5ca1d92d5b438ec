"""Calls a handler without a broker: for unit tests of agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from mesh.agents.app import Agent
from mesh.agents.context import Context, TaskInfo
from mesh.agents.emits import Emits
from mesh.agents.guard import Raised, Threads, error_of, guard
from mesh.agents.values import as_recorded, read_input
from mesh.clock import Clock, SystemClock
from mesh.errors import InvalidInput, MeshError, Nondeterministic, TaskCancelled, TooLarge
from mesh.log.head import EXECUTOR, ROUTER, Entry, View, next_commit
from mesh.log.journal import Journal
from mesh.service import Stamp
from schemas.command import DEFAULT_OWNER
from schemas.envelope import Event, event
from schemas.error import Error
from schemas.step import EventAdded, StepCompleted, StepFailed, StepProgress, TextAdded
from schemas.task import (
    TERMINAL,
    CancelRequested,
    State,
    TaskAccepted,
    TaskCanceled,
    TaskCompleted,
    TaskFailed,
    TaskStarted,
)

TASK = "local"


class LocalResult(Struct, frozen=True, kw_only=True):
    """What a handler did; `log` may be replayed, and held against the invariants.

    `steps` has the output of each step by its key, or its `Error`; `performed` names those that were performed in this
    run, in their order; `events` are the application's own, `progress` what was said last at each commit.
    """

    state: State
    output: Any = None
    error: Error | None = None
    text: str = ""
    events: tuple[EventAdded, ...] = ()
    progress: tuple[StepProgress, ...] = ()
    steps: dict[str, Any] = {}
    performed: tuple[str, ...] = ()
    log: tuple[Entry, ...] = ()


class LocalRecorder:
    """A recorder whose log is a list; it is never fenced, and canceled only before the step `cancel_before`."""

    def __init__(self, entries: Sequence[Entry], clock: Clock, cancel_before: str | None) -> None:
        self.entries = list(entries)
        self.performed: list[str] = []
        self.cancelled = False
        self.emits = Emits(0, 0, clock.now)
        self._clock = clock
        self._cancel_before = cancel_before

    def append(self, role: str, events: tuple[Event, ...]) -> str:
        """One more commit; its sequence is what a stream of this log alone would give."""
        last = self.entries[-1] if self.entries else None
        view = View(TASK)
        if last:
            c = last.commit
            view = View(c.task, last.seq, c.n, self.entries[0].seq, c.head, c.v)
        commit = next_commit(view, Stamp(role, TASK, self._clock), events)
        self.entries.append(Entry(view.seq + 1, commit))
        return commit.at

    def claim(self) -> Journal:
        """Claims the task as an executor does, and reads what its log holds."""
        head = self.entries[-1].commit.head
        started = TaskStarted(
            wake=head.wake, cover=1, delivery=head.delivery + 1, owner=TASK, attempt=head.starts + 1
        )  # fmt: skip
        self.append(EXECUTOR, (event(started),))
        journal = Journal(entry.commit for entry in self.entries)
        self.emits = Emits(journal.claims, len(journal.text), self._clock.now)
        return journal

    async def commit(self, events: tuple[Event, ...]) -> str:
        every = (*self.emits.take(), *events)
        return self.append(EXECUTOR, every) if every else ""

    async def lease(self) -> None:
        if self.cancelled:
            raise TaskCancelled("the task was asked to stop")

    def performing(self, step: str) -> None:
        self.performed.append(step)
        if step == self._cancel_before:
            self.cancelled = True
            raise TaskCancelled("the task was asked to stop")

    async def tell(self, text: str, offset: int) -> None:
        """Nobody listens."""

    def soon(self) -> None:
        """There is no hurry: the next commit takes it along."""


async def run_local(
    agent: Agent,
    input: Any = None,
    *,
    secrets: Mapping[str, str] | None = None,
    replay: Sequence[Entry] | None = None,
    clock: Clock | None = None,
    info: TaskInfo | None = None,
) -> LocalResult:
    """Calls the agent's handler once, over a log in memory, with the same context that an executor gives it.

    `replay` is a log to go on from: that of an earlier result, whole or cut off after any commit, or one that
    `read_log` fetched from a mesh. Recorded steps are not performed again then, and the input is the recorded one. The
    context finds `secrets` and nothing else.

    Raises: Nondeterministic where the handler asks for other steps than `replay` holds; an executor would suspend the
    task.
    """
    clock = clock or SystemClock()
    info = info or TaskInfo(id=TASK, agent=agent.name, context_id=TASK)
    recorder = LocalRecorder(_without_end(replay, clock) if replay else (), clock)
    if not recorder.entries:
        accepted = TaskAccepted(
            agent=agent.name, pool=TASK, digest=TASK, sequence=1, at="", owner=DEFAULT_OWNER,
            input=as_recorded(input, Any, "the input"),
        )  # fmt: skip
        recorder.append(ROUTER, (event(accepted),))
    journal = recorder.claim()
    assert journal.accepted is not None
    terminal = await _call(agent, journal, recorder, Context(
        info, None, journal, recorder, secrets=(secrets or {}).get, threads=Threads()
    ))  # fmt: skip
    recorder.append(EXECUTOR, (*recorder.emits.take(), event(terminal)))
    return _result(terminal, recorder)
