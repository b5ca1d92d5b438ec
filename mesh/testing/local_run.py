"""Calls a handler without a broker: for unit tests of agents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from mesh.agents.app import Agent, Mesh
from mesh.agents.context import Context, TaskInfo
from mesh.agents.emits import Emits
from mesh.agents.guard import Raised, Threads, error_of, guard
from mesh.agents.values import as_recorded, read_input
from mesh.clock import Clock, SystemClock
from mesh.errors import InvalidInput, Nondeterministic, TooLarge
from mesh.log.head import EXECUTOR, ROUTER, Entry, View, next_commit
from mesh.log.journal import Journal
from mesh.log.steps import Step
from mesh.service import Stamp
from mesh.testing.objects import MemoryObjects
from schemas.command import DEFAULT_OWNER
from schemas.envelope import Event, event
from schemas.error import Error
from schemas.instant import rfc3339
from schemas.step import EventAdded, StepCompleted, StepFailed, StepProgress
from schemas.task import State, TaskAccepted, TaskCompleted, TaskFailed, TaskStarted

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
    """A recorder whose log is a list; nobody fences or cancels it."""

    cancelled = False

    def __init__(self, entries: Sequence[Entry], clock: Clock) -> None:
        self.entries = list(entries)
        self.performed: list[str] = []
        self.objects = MemoryObjects()
        self.emits = Emits(0, 0, clock.now)
        self._clock = clock

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
        """It is ours."""

    @contextmanager
    def performing(self, step: str) -> Iterator[None]:
        self.performed.append(step)
        yield

    async def call(self, step: Step, timeout_s: float | None, *, again: bool) -> None:
        raise AssertionError("there is no tool runner")

    async def wait(self, step: str) -> StepCompleted | StepFailed:
        raise AssertionError("nobody else performs a step")

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
    recorder = LocalRecorder(_without_end(replay or ()), clock)
    if not recorder.entries:
        accepted = TaskAccepted(
            agent=agent.name, pool=TASK, digest=TASK, sequence=1, at=rfc3339(clock.now()), owner=DEFAULT_OWNER,
            input=as_recorded(input, Any, "the input"),
        )  # fmt: skip
        recorder.append(ROUTER, (event(accepted),))
    journal = recorder.claim()
    info = info or _info(recorder.entries[0].commit.task, journal)
    terminal = await _call(agent, journal, recorder, info, secrets or {})
    recorder.append(EXECUTOR, (*recorder.emits.take(), event(terminal)))
    return _result(terminal, recorder)


async def _call(
    agent: Agent, journal: Journal, recorder: LocalRecorder, info: TaskInfo, secrets: Mapping[str, str]
) -> TaskCompleted | TaskFailed:
    """What an executor does with a handler, and how it ends the task."""
    threads = Threads()
    try:
        assert journal.accepted is not None
        value = read_input(journal.accepted.input, agent.input_type)
        context = Context(
            info, value, journal, recorder, tools=Mesh(TASK).find_tool, secrets=secrets.get, threads=threads
        )  # fmt: skip
        outcome = await guard(agent.handler, (context, value) if agent.takes_input else (context,), {}, threads)
        if isinstance(outcome, Raised):
            if isinstance(outcome.error, Nondeterministic):
                raise outcome.error
            return TaskFailed(error=error_of(outcome.error))
        output = as_recorded(outcome, agent.output_type, f"the output of agent '{agent.name}'")
        context.check_complete()
    except (InvalidInput, TooLarge) as error:
        return TaskFailed(error=error.to_error())
    return TaskCompleted(output=output)


def _info(task: str, journal: Journal) -> TaskInfo:
    """As the log says: what a handler draws from `ctx.random` follows from the task's id."""
    accepted = journal.accepted
    assert accepted is not None, "a log begins with task.accepted"
    return TaskInfo(
        id=task, agent=accepted.agent, context_id=accepted.context_id or task, owner=accepted.owner,
        attempt=journal.claims, metadata=accepted.metadata,
    )  # fmt: skip


def _without_end(entries: Sequence[Entry]) -> list[Entry]:
    """A log as it was before its task ended; what was emitted with the end goes with it, and is emitted again."""
    return [entry for entry in entries if entry.commit.head.phase != "ended"]


def _result(terminal: TaskCompleted | TaskFailed, recorder: LocalRecorder) -> LocalResult:
    journal = Journal(entry.commit for entry in recorder.entries)
    data = [one.data for entry in recorder.entries for one in entry.commit.events]
    completed = isinstance(terminal, TaskCompleted)
    return LocalResult(
        state="completed" if completed else "failed",
        output=terminal.output if isinstance(terminal, TaskCompleted) else None,
        error=terminal.error if isinstance(terminal, TaskFailed) else None,
        text=journal.text,
        events=tuple(one for one in data if isinstance(one, EventAdded)),
        progress=tuple(one for one in data if isinstance(one, StepProgress)),
        steps={key: _outcome(one) for key, one in journal.results.items()},
        performed=tuple(recorder.performed),
        log=tuple(recorder.entries),
    )


def _outcome(result: StepCompleted | StepFailed) -> Any:
    return result.output if isinstance(result, StepCompleted) else result.error
