"""The context a handler receives: every effect goes through it as a step.

If the log holds a step's result, it is returned at once; otherwise the effect is performed and recorded. So a handler
that is called again after a crash passes through what it has done and goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine
from contextlib import AbstractContextManager
from datetime import datetime
from functools import cached_property
from random import Random
from typing import Any, Final, Protocol, TypeVar, overload

import structlog
from msgspec import Struct

from mesh.agents.artifacts import Artifact, Artifacts, check_name, media_type_of, source_of
from mesh.agents.emits import Emits
from mesh.agents.guard import Raised, Threads, error_of, guard
from mesh.agents.performing import Performing, performing
from mesh.agents.tools import P, Tool
from mesh.agents.values import as_recorded, restore, return_type
from mesh.errors import (
    InvalidInput,
    Nondeterministic,
    OutcomeUnknown,
    SecretMissing,
    StepFailed,
    TaskCancelled,
    TooLarge,
)
from mesh.log import large, ops
from mesh.log.journal import Journal
from mesh.log.steps import Step, call_step, perform_step
from schemas import error as codes
from schemas.envelope import Event, event
from schemas.step import EventAdded, StepCompleted, StepProgress
from schemas.step import StepFailed as StepFailedEvent

MAX_STEP_NAME: Final = 128
MAX_UNCOMMITTED: Final = 16 * 1024
REPLAY_GRACE_S: Final = 1.0
T = TypeVar("T")


class TaskInfo(Struct, frozen=True, kw_only=True):
    """Which task a handler works on; `attempt` counts the claims of this task."""

    id: str
    agent: str
    context_id: str
    owner: str = "local/anonymous"
    attempt: int = 1
    metadata: dict[str, Any] | None = None


class Recorder(Protocol):
    """Where a context records: a task's log, or a list in a unit test."""

    emits: Emits

    @property
    def objects(self) -> large.Objects:
        """Where bodies are kept by digest."""
        ...

    @property
    def cancelled(self) -> bool: ...

    async def commit(self, events: tuple[Event, ...]) -> str:
        """Appends what was emitted and then these events; returns their time."""
        ...

    async def lease(self) -> None:
        """Makes sure that the task is still ours before an effect."""
        ...

    def performing(self, step: str) -> AbstractContextManager[None]:
        """An effect is made in this block; crash tests look at it, and a task is not suspended meanwhile."""
        ...

    async def call(self, step: Step, timeout_s: float | None, *, again: bool) -> None:
        """Publishes a tool call that the log holds as requested; `again` if it may have been published before."""
        ...

    async def wait(self, step: str) -> StepCompleted | StepFailedEvent:
        """Waits until the log holds the end of a step that somebody else performs."""
        ...

    async def tell(self, text: str, offset: int) -> None:
        """Sends text ahead of the log."""
        ...

    def soon(self) -> None:
        """What was emitted must be committed soon."""
        ...


class Context:
    """What a handler works with; made by the executor, or by `mesh.testing`."""

    def __init__(
        self,
        task: TaskInfo,
        input: Any,
        journal: Journal,
        recorder: Recorder,
        *,
        tools: Callable[[str], Tool[Any, Any]],
        secrets: Callable[[str], str | None],
        threads: Threads | None = None,
    ) -> None:
        self.task = task
        self.input = input
        self._journal = journal
        self._recorder = recorder
        self._tools = tools
        self._secrets = secrets
        self._threads = threads or Threads()
        self._occurrences: dict[str, int] = {}
        self._seen: list[str] = []
        self._unasked = set(journal.requested)
        self._replayed = asyncio.Event()
        self._skip_text = len(journal.text)
        self._skip_events = journal.events
        self._artifacts = Artifacts(journal.artifacts)
        self._now = journal.at
        self._mark_replayed()

    # Few handlers use these two, and making them costs 8 µs of the 150 that an executor needs for a short task.

    @cached_property
    def random(self) -> Random:
        """Random numbers that are the same when the handler is called again."""
        return Random(self.task.id)

    @cached_property
    def log(self) -> Any:
        """A structlog logger that names the task."""
        return structlog.get_logger("mesh.agent").bind(
            task=self.task.id, context=self.task.context_id, agent=self.task.agent, attempt=self.task.attempt
        )

    @overload
    async def step(
        self,
        name: str,
        function: Callable[..., Coroutine[Any, Any, T]],
        /,
        *args: Any,
        idempotent: bool = ...,
        **kwargs: Any,
    ) -> T: ...

    @overload
    async def step(
        self, name: str, function: Callable[..., T], /, *args: Any, idempotent: bool = ..., **kwargs: Any
    ) -> T: ...

    async def step(
        self, name: str, function: Callable[..., Any], /, *args: Any, idempotent: bool = True, **kwargs: Any
    ) -> Any:
        """Performs `function(*args, **kwargs)` once and records its result.

        A blocking function runs in a thread. What comes back has been through JSON, live as well as after a crash;
        annotate the function's return type to get dataclasses or structs. With `idempotent=False` the start is
        committed first, and a start without a result is never repeated.

        *Delivery:* if the worker dies inside it, an idempotent step is performed again.
        *Cancellation:* the function is cancelled; a thread cannot be, its result is refused.

        Raises: StepFailed with the recorded error, OutcomeUnknown, Nondeterministic.
        """
        wanted = Step(key=self._key(name), kind="code", name=name, idempotent=idempotent)
        kind = return_type(function)
        await self._check_replay(wanted)

        async def answer(op: ops.Op) -> Any:
            if isinstance(op, ops.Commits):
                self._now = await self._recorder.commit(op.events)
                return None
            if isinstance(op, ops.Lease):
                return await self._recorder.lease()
            assert isinstance(op, ops.Perform)
            here = Performing(task=self.task.id, step=wanted.key, idempotent=idempotent)
            with self._recorder.performing(wanted.key), performing(here):
                value = await guard(function, args, kwargs, self._threads)
            return _outcome(op, value, kind, f"step '{wanted.key}'")

        result = await ops.drive(perform_step(self._journal, wanted), answer)
        self._now = self._journal.finished_at.get(wanted.key, self._now)
        return _value(await large.restore(result, self._recorder.objects), kind)

    @overload
    async def tool(self, tool: Tool[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    async def tool(self, tool: Tool[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    async def tool(self, tool: str, arguments: dict[str, Any], /, *, timeout_s: float | None = ...) -> Any: ...

    async def tool(self, tool: Tool[Any, Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Has a tool runner make a call, once, and returns its recorded result.

        By the tool itself the call is written like one of the function; by name it takes its arguments as a dict and
        an optional `timeout_s`. A task that waits for nothing but tools for longer than a second is suspended and
        holds no worker.

        *Delivery:* an idempotent tool is repeated if its runner dies; another one ends as OutcomeUnknown.
        *Cancellation:* the tool is stopped; no result of it counts any more.

        Raises: StepFailed with the recorded error, OutcomeUnknown, InvalidInput for arguments that do not fit.
        """
        found = self._tools(tool if isinstance(tool, str) else tool.name)
        timeout_s = kwargs.pop("timeout_s", None) if isinstance(tool, str) else None
        arguments = found.check(args[0] if args else {}) if isinstance(tool, str) else found.bind(args, kwargs)
        return await self._call_tool(found, self._key(found.name), arguments, timeout_s)

    async def _call_tool(
        self, tool: Tool[Any, Any], key: str, arguments: dict[str, Any], timeout_s: float | None
    ) -> Any:
        wanted = Step(key=key, kind="tool", name=tool.name, idempotent=tool.policy.idempotent, input=arguments)
        await self._check_replay(wanted)

        async def answer(op: ops.Op) -> Any:
            if isinstance(op, ops.Commits):
                self._now = await self._recorder.commit(op.events)
                return None
            if isinstance(op, ops.Calls):
                return await self._recorder.call(wanted, timeout_s, again=op.again)
            assert isinstance(op, ops.Awaits)
            return await self._recorder.wait(op.step)

        result = await ops.drive(call_step(self._journal, wanted), answer)
        self._now = self._journal.finished_at.get(wanted.key, self._now)
        return _value(await large.restore(result, self._recorder.objects), tool.output_type)

    async def emit_text(self, text: str) -> None:
        """Streams text to whoever tails the task.

        It is on its way at once and in the log with the next commit, at the latest after a second. A handler that is
        called again skips as much as the log holds.
        """
        _check_text(text, "the text")
        if self._skip_text:
            skipped = min(self._skip_text, len(text))
            self._skip_text -= skipped
            text = text[skipped:]
        for begin in range(0, len(text), MAX_UNCOMMITTED):
            await self._stream(text[begin : begin + MAX_UNCOMMITTED])

    async def _stream(self, text: str) -> None:
        emits = self._recorder.emits
        offset = emits.offset
        emits.add_text(text)
        await self._recorder.tell(text, offset)
        await self._rest_soon()

    async def _rest_soon(self) -> None:
        """What was emitted rides with the next commit, which must not be far away."""
        if self._recorder.emits.size >= MAX_UNCOMMITTED:
            await self._recorder.commit(())
        else:
            self._recorder.soon()

    async def emit_progress(self, message: str = "", fraction: float | None = None) -> None:
        """Says how far the task has come; only the newest is kept. `fraction` is 0 to 1."""
        if not isinstance(fraction, int | float | None):
            raise InvalidInput(f"a fraction is a number from 0 to 1, not {fraction!r}")
        _check_text(message, "the message")
        if self._replayed.is_set():
            self._recorder.emits.set_progress(StepProgress(message=message, fraction=fraction))
            self._recorder.soon()

    async def emit_event(self, name: str, data: Any = None) -> None:
        """Adds an event of the application's own to the task's log."""
        _check_text(name, "an event's name")
        if self._skip_events:
            self._skip_events -= 1
            return
        plain = as_recorded(data, Any, f"event '{name}'")
        self._recorder.emits.add_event(EventAdded(name=name, data=plain))
        await self._rest_soon()

    async def write_artifact(
        self, name: str, data: bytes | str | AsyncIterable[bytes], media_type: str | None = None
    ) -> Artifact:
        """Keeps a body of any size under a name of this task; the same name again is a newer version.

        What is streamed is sent as it comes. The type is guessed from the name if it is not given. A handler that is
        called again gets what its log holds, and `data` is not looked at.

        *Delivery:* kept and in the log before this returns. A stream cannot be repeated, so a broker that is lost in
        the middle of one is the caller's to deal with; anything else waits until the broker is back.
        *Cancellation:* nothing is kept of what was not complete.

        Raises: InvalidInput; of a stream also BusUnavailable, StorageFull, and what it raises itself.
        """
        recorded = self._artifacts.next_recorded(check_name(name))
        if recorded is not None:
            return self._artifacts.add(recorded)
        source, media_type = source_of(data), media_type or media_type_of(name, data)
        await self._recorder.lease()
        with self._recorder.performing(f"artifact:{name}"):
            kept = await self._recorder.objects.put(source, media_type)
            artifact = Artifact(name=name, digest=kept.digest, size=kept.size, media_type=media_type)
            await self._recorder.commit((event(artifact),))
        return self._artifacts.add(artifact)

    async def read_artifact(self, artifact: Artifact | str) -> bytes:
        """The body of an artifact: by itself, by a name that this handler has written, or by digest.

        Raises: ArtifactMissing; ArtifactDamaged where what is kept does not fit the digest.
        """
        return await self._recorder.objects.read(self._artifacts.digest_of(artifact))

    def open_artifact(self, artifact: Artifact | str) -> AsyncGenerator[bytes]:
        """The same piece by piece; it counts once the last piece has come and nothing was raised.

        Raises: as `read_artifact`; also BusUnavailable.
        """
        return self._recorder.objects.open(self._artifacts.digest_of(artifact))

    def check_cancelled(self) -> None:
        """Raises TaskCancelled if the task has been asked to stop; for loops in threads too."""
        if self._recorder.cancelled:
            raise TaskCancelled(f"task '{self.task.id}' was asked to stop")

    def secret(self, name: str) -> str:
        """A secret from the executor's environment; it is never recorded.

        Raises: SecretMissing with the variable to set.
        """
        value = self._secrets(name)
        if value is None:
            raise SecretMissing(f"secret '{name}' is not set", hint=f"set the variable {name} where the executor runs")
        return value

    def now(self) -> datetime:
        """The recorded time of the step before; the same after a crash, and no commit."""
        return datetime.fromisoformat(self._now)

    def check_complete(self) -> None:
        """Raises Nondeterministic if the log holds steps that the handler never asked for."""
        if not self._replayed.is_set():
            raise self._nondeterministic(None)

    def _key(self, name: str) -> str:
        _check_text(name, "a step's name")
        if not 0 < len(name) <= MAX_STEP_NAME or "\x00" in name:
            raise InvalidInput(f"a step's name is 1 to {MAX_STEP_NAME} characters of text")
        count = self._occurrences[name] = self._occurrences.get(name, 0) + 1
        return name if count == 1 else f"{name}#{count}"

    async def _check_replay(self, wanted: Step) -> None:
        """A new step may come only when every recorded one has been asked for again.

        Branches that run side by side ask in any order, so the others get a moment to catch up.
        """
        self._seen.append(wanted.key)
        self._unasked.discard(wanted.key)
        recorded = self._journal.requested.get(wanted.key)
        if recorded is not None:
            self._mark_replayed()
            if (recorded.kind, recorded.name) != (wanted.kind, wanted.name):
                raise self._nondeterministic(wanted.key)
        elif not self._replayed.is_set():
            try:
                async with asyncio.timeout(REPLAY_GRACE_S):
                    await self._replayed.wait()
            except TimeoutError:
                raise self._nondeterministic(wanted.key) from None

    def _mark_replayed(self) -> None:
        if not self._unasked:
            self._replayed.set()

    def _nondeterministic(self, key: str | None) -> Nondeterministic:
        recorded, asked = list(self._journal.requested), list(self._seen)
        what = f"asks for step '{key}'" if key else "ended early"
        return Nondeterministic(
            f"the handler {what}, but its log holds other steps: the log has {recorded}, the handler asked for {asked}",
            hint="its code changed while the task was under way: serve the version that began it, or one that fits",
        )


def _check_text(text: str, what: str) -> None:
    if not isinstance(text, str):
        raise InvalidInput(f"{what} is no text but {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{what} is no valid Unicode: {error.reason} at character {error.start}") from error


def _outcome(op: ops.Perform, value: Any, kind: Any, what: str) -> StepCompleted | StepFailedEvent:
    if not isinstance(value, Raised):
        try:
            return StepCompleted(step=op.step, attempt=op.attempt, output=as_recorded(value, kind, what))
        except (InvalidInput, TooLarge) as error:
            value = Raised(error)
    return StepFailedEvent(step=op.step, attempt=op.attempt, error=error_of(value.error))


def _value(result: StepCompleted | StepFailedEvent, kind: Any) -> Any:
    if isinstance(result, StepCompleted):
        return restore(result.output, kind)
    if result.error.code == codes.TOOL_OUTCOME_UNKNOWN:
        raise OutcomeUnknown(result.error)
    raise StepFailed(result.error)


__all__ = ["Context", "Recorder", "TaskInfo"]
