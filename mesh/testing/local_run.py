"""Calls a handler without a broker: for unit tests of agents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from mesh.agents.app import Agent, Mesh
from mesh.agents.artifacts import Artifact
from mesh.agents.context import Context, TaskInfo
from mesh.agents.deltas import Source
from mesh.agents.emits import Emits
from mesh.agents.guard import Raised, Threads, error_of, guard
from mesh.agents.model_step import ModelAccess
from mesh.agents.values import as_recorded, read_input
from mesh.clock import Clock, SystemClock
from mesh.errors import InvalidInput, Nondeterministic, TooLarge
from mesh.log.head import EXECUTOR, ROUTER, TOOL_RUNNER, Entry, View, next_commit
from mesh.log.journal import Journal
from mesh.log.steps import Step, lost_with_runner
from mesh.models.api import Model
from mesh.models.resolve import Scripts
from mesh.service import Stamp
from mesh.testing.local_calls import LocalCalls
from mesh.testing.objects import MemoryObjects
from schemas.command import DEFAULT_OWNER
from schemas.envelope import Event, event
from schemas.error import Error
from schemas.instant import rfc3339
from schemas.step import EventAdded, StepCompleted, StepFailed, StepProgress, StepStarted
from schemas.task import State, TaskAccepted, TaskCompleted, TaskFailed, TaskStarted, Usage

TASK = "local"


class LocalResult(Struct, frozen=True, kw_only=True):
    """What a handler did; `log` may be replayed, and held against the invariants.

    `steps` has the output of each step by its key, or its `Error`; `performed` names those that were performed in this
    run, in their order; `events` are the application's own, `progress` what was said last at each commit. `artifacts`
    and `usage` are as in the `Result` of a client.
    """

    state: State
    output: Any = None
    error: Error | None = None
    text: str = ""
    events: tuple[EventAdded, ...] = ()
    progress: tuple[StepProgress, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    usage: Usage | None = None
    steps: dict[str, Any] = {}
    performed: tuple[str, ...] = ()
    log: tuple[Entry, ...] = ()


class Nobody:
    """Who listens to the text of a model step."""

    async def tell(self, text: str, offset: int) -> None:
        """It is in the log later."""

    async def flush(self) -> None:
        """Nothing waits."""


class LocalRecorder:
    """A recorder whose log is a list; nobody fences or cancels it."""

    stopping = False
    cancelled = False
    past = None

    def __init__(self, entries: Sequence[Entry], clock: Clock, calls: LocalCalls) -> None:
        self.entries = list(entries)
        self.performed: list[str] = []
        self.objects = MemoryObjects()
        self.emits = Emits(0, 0, clock.now)
        self.calls = calls
        self._clock = clock
        self._journal = Journal(())
        self._executions: dict[str, int] = {}

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
        self._journal = Journal(entry.commit for entry in self.entries)
        self.emits = Emits(self._journal.claims, len(self._journal.text), self._clock.now)
        return self._journal

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
        self.calls.timeouts[step.key] = timeout_s

    async def wait(self, step: str) -> StepCompleted | StepFailed:
        """Makes the call here, as a tool runner would: each attempt has a start, and the result is recorded."""
        known = Journal(entry.commit for entry in self.entries)
        if step in known.results:
            return known.results[step]
        request, begun = known.requested[step], known.starts.get(step, 0)
        lost = begun
        if begun and not request.idempotent:
            return self._end(StepFailed(step=step, attempt=begun, error=lost_with_runner(request.name)))
        while True:
            begun += 1
            self.append(TOOL_RUNNER, (event(StepStarted(step=step, attempt=begun, by=TASK, cover=1, delivery=1)),))
            self.performed.append(step)
            made = await self.calls.make(self.entries[0].commit.task, request, begun, lost, self._tell_progress)
            if made.pause_s is None:
                return self._end(made.result)

    def _end(self, result: StepCompleted | StepFailed) -> StepCompleted | StepFailed:
        self._journal.add(event(result), self.append(TOOL_RUNNER, (event(result),)))
        return result

    def _tell_progress(self, progress: StepProgress) -> None:
        self.append(TOOL_RUNNER, (event(progress),))

    async def tell(self, text: str, offset: int) -> None:
        """Nobody listens."""

    def teller(self, source: Source) -> Nobody:
        return Nobody()

    def attempt(self, step: str) -> int:
        executions = self._executions[step] = self._executions.get(step, 0) + 1
        return executions

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
    models: Model | None = None,
    app: Mesh | None = None,
) -> LocalResult:
    """Calls the agent's handler once, over a log in memory, with the same context that an executor gives it.

    `replay` is a log to go on from: that of an earlier result, whole or cut off after any commit, or one that
    `read_log` fetched from a mesh. Recorded steps are not performed again then, and the input is the recorded one. The
    context finds `secrets` and nothing else, and asks `models`, such as a `ScriptedModel`, whatever model is named.
    Without `models` the scripted ones of `app` answer, and no other is asked. The tools of `app` are called here, by
    their policy but without its pauses; an agent that calls tools needs it.

    Raises: InvalidInput for what is no agent; Nondeterministic where the handler asks for other steps than `replay`
    holds; an executor would suspend the task.
    """
    if not isinstance(agent, Agent):
        raise InvalidInput(f"{agent!r} is no agent", hint="give run_local what @app.agent or app.model_agent made")
    clock, models = clock or SystemClock(), models or (Scripts(app.scripts) if app and app.scripts else None)
    calls = LocalCalls((app or Mesh(TASK)).find_tool, (secrets or {}).get)
    recorder = LocalRecorder(_without_end(replay or ()), clock, calls)
    if not recorder.entries:
        accepted = TaskAccepted(
            agent=agent.name, pool=TASK, digest=TASK, sequence=1, at=rfc3339(clock.now()), owner=DEFAULT_OWNER,
            input=as_recorded(input, Any, "the input"),
        )  # fmt: skip
        recorder.append(ROUTER, (event(accepted),))
    journal = recorder.claim()
    info = info or _info(recorder.entries[0].commit.task, journal)
    terminal = await _call(agent, journal, recorder, _Given(info, secrets or {}, models))
    recorder.append(EXECUTOR, (*recorder.emits.take(), event(terminal)))
    return _result(terminal, recorder)


class _Given(Struct, frozen=True):
    info: TaskInfo
    secrets: Mapping[str, str]
    models: Model | None


async def _call(agent: Agent, journal: Journal, recorder: LocalRecorder, given: _Given) -> TaskCompleted | TaskFailed:
    """What an executor does with a handler, and how it ends the task."""
    threads = Threads()
    try:
        assert journal.accepted is not None
        value = read_input(journal.accepted.input, agent.input_type)
        context = Context(
            given.info, value, journal, recorder, tools=recorder.calls.tools, secrets=given.secrets.get,
            threads=threads, models=ModelAccess(given.models) if given.models else None,
        )  # fmt: skip
        outcome = await guard(agent.handler, (context, value) if agent.takes_input else (context,), {}, threads)
        if isinstance(outcome, Raised):
            if isinstance(outcome.error, Nondeterministic):
                raise outcome.error
            return TaskFailed(error=error_of(outcome.error), usage=context.usage)
        output = as_recorded(outcome, agent.output_type, f"the output of agent '{agent.name}'")
        context.replay.check_complete()
    except (InvalidInput, TooLarge) as error:
        return TaskFailed(error=error.to_error())
    return TaskCompleted(output=output, usage=context.usage)


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
        artifacts=tuple(one for one in data if isinstance(one, Artifact)),
        usage=terminal.usage,
        steps={key: _outcome(one) for key, one in journal.results.items()},
        performed=tuple(recorder.performed),
        log=tuple(recorder.entries),
    )


def _outcome(result: StepCompleted | StepFailed) -> Any:
    return result.output if isinstance(result, StepCompleted) else result.error
