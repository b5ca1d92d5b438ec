"""The context a handler receives: every effect goes through it as a step.

If the log holds a step's result, it is returned at once; otherwise the effect is performed and recorded. So a handler
that is called again after a crash passes through what it has done and goes on where it was.
"""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Sequence
from datetime import datetime
from functools import cached_property
from random import Random
from typing import Any, Concatenate, Final, Self, TypeVar, Unpack, overload

import msgspec
import structlog

from mesh.agents.artifacts import Artifact, Artifacts, check_name, media_type_of, source_of
from mesh.agents.guard import Threads, guard
from mesh.agents.history import MAX_TASKS
from mesh.agents.history import STEP_NAME as HISTORY
from mesh.agents.model_step import (
    STEP_NAME,
    Answering,
    Corrections,
    ModelAccess,
    Prompt,
    Reply,
    ToolLike,
    message_of,
    messages_of,
    spec_of,
    until_it_fits,
)
from mesh.agents.outcome import outcome_of, value_of
from mesh.agents.performing import Performing, performing
from mesh.agents.recipe import Conversations, check_same, definition_of
from mesh.agents.recorder import Recorder, TaskInfo
from mesh.agents.replay import Replay
from mesh.agents.tool_context import ToolContext
from mesh.agents.tools import P, Tool
from mesh.agents.values import as_recorded, return_type
from mesh.errors import (
    InvalidInput,
    ModelNotConfigured,
    SecretMissing,
    StepFailed,
    TaskCancelled,
)
from mesh.log import large, ops
from mesh.log.journal import Journal
from mesh.log.steps import Step, call_step, perform_step
from mesh.models.api import Endpoint, ModelRequest
from mesh.models.output import output_spec
from mesh.models.usage import total_usage
from schemas import error as codes
from schemas.envelope import event
from schemas.error import Error
from schemas.message import Message
from schemas.step import EventAdded, StepCompleted, StepProgress
from schemas.step import StepFailed as StepFailedEvent
from schemas.task import Usage

MAX_UNCOMMITTED: Final = 16 * 1024
T = TypeVar("T")


class Context:
    """What a handler works with; made by the executor, or by `mesh.testing`, which look at its `replay`."""

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
        models: ModelAccess | None = None,
    ) -> None:
        self.task = task
        self.input = input
        self._journal = journal
        self._recorder = recorder
        self._tools = tools
        self._secrets = secrets
        self._threads = threads or Threads()
        self._models = models
        self.replay = Replay(journal)
        self._artifacts = Artifacts(journal.artifacts)
        self._conversations = Conversations(input)
        self._now = journal.at
        self._prefix = ""
        self._timeout_s: float | None = None

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

    def branch(self, name: str, timeout_s: float | None = None) -> Self:
        """A context for one of several branches that run side by side; its step keys begin with the branch's name.

        Branches of one name are numbered in the order of these calls (`left`, `left#2`): make them before what runs
        side by side begins. `timeout_s` bounds each effect of the branch: one that takes longer ends as `tool_timeout`.
        """
        _check_text(name, "a branch's name")
        branch = copy.copy(self)
        branch._enter(name, timeout_s)  # noqa: SLF001 - it is one of these
        return branch

    def _enter(self, name: str, timeout_s: float | None) -> None:
        bounds = [one for one in (timeout_s, self._timeout_s) if one is not None]
        self._prefix, self._timeout_s = self.replay.branch(name, self._prefix), min(bounds, default=None)

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
        return await self._perform(wanted, function, args, kwargs)

    async def _perform(
        self, wanted: Step, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        kind = return_type(function)
        await self.replay.check(wanted)

        async def answer(op: ops.Op) -> Any:
            if isinstance(op, ops.Commits):
                self._now = await self._recorder.commit(op.events)
                return None
            if isinstance(op, ops.Lease):
                return await self._recorder.lease()
            assert isinstance(op, ops.Perform)
            here = Performing(task=self.task.id, step=wanted.key, idempotent=wanted.idempotent)
            try:
                with self._recorder.performing(wanted.key), performing(here):
                    async with asyncio.timeout(self._timeout_s):
                        value = await guard(function, args, kwargs, self._threads)
            except TimeoutError:
                return self._late(op.step, op.attempt)
            return outcome_of(op, value, kind, f"step '{wanted.key}'")

        result = await ops.drive(perform_step(self._journal, wanted), answer)
        return value_of(await self._restored(result), kind)

    async def history(self, *, max_tasks: int = MAX_TASKS) -> list[Message]:
        """What was said before in this task's conversation, the oldest first.

        These are the input and the output of each task of the same `context_id` and owner that was accepted before
        this one and has ended; of more than `max_tasks` those that ended last. Recorded is which tasks were read, not
        what they said. A task without a context of its own has no past, and nobody is asked.

        Raises: StepFailed (`bus_unavailable`) if no session store answers, UnknownTask if a log is gone.
        """
        past = self._recorder.past
        if past is None or self.task.context_id == self.task.id or max_tasks < 1:
            return []
        key = self._key(HISTORY)
        tasks = await self._perform(Step(key=key, kind="code", name=HISTORY), past.tasks, (max_tasks,), {})
        with self.replay.handing():
            messages = await past.messages(tasks)
        self._conversations.remembered(key, messages)
        return messages

    async def model(
        self,
        model: str,
        prompt: Prompt,
        *,
        instructions: str = "",
        tools: Sequence[ToolLike] = (),
        output_type: Any = None,
        settings: dict[str, Any] | None = None,
        endpoint: Endpoint = Endpoint(),  # noqa: B008 - it is frozen
        **corrections: Unpack[Corrections],
    ) -> Reply:
        """Asks a model (`provider:model`) once and returns its recorded answer, whose text was streamed meanwhile.

        Tools are only shown to the model; the calls it wants are in the reply. With an `output_type` an answer that
        does not fit is sent back up to `max_corrections` (3) times, as long as fewer than `max_tokens` were used; each
        time is a step of its own. A handler that is called again must ask the same.

        *Delivery:* an answer that is in the log is never asked for again; a worker that dies before that is.
        *Cancellation:* the stream to the provider is closed.

        Raises: StepFailed with `model_not_configured`, `model_unavailable`, `model_rejected` or `too_large`;
        OutputInvalid, Nondeterministic.
        """
        spec = None if output_type is None else output_spec(output_type)
        request = ModelRequest(
            model=model, instructions=instructions, messages=messages_of(prompt), output=spec,
            tools=tuple(spec_of(tool) for tool in tools), settings=settings or {}, endpoint=endpoint,
        )  # fmt: skip
        return await until_it_fits(self._ask, request, output_type, **corrections)

    async def _ask(self, request: ModelRequest) -> tuple[str, Message]:
        """One model step: its key and the recorded answer."""
        if self._models is None:
            raise ModelNotConfigured("there is no model here", hint="pass models= to what calls this handler")
        models, recorder, key = self._models, self._recorder, self._key(STEP_NAME)
        asked = self._conversations.asked(request)
        wanted = Step(key=key, kind="model", name=STEP_NAME, input=msgspec.to_builtins(asked.recipe))
        await self.replay.check(wanted)
        if recorded := self._journal.requested.get(key):
            check_same(await large.restore(recorded, recorder.objects), asked.recipe)
        answering = Answering(recorder, key)

        async def answer(op: ops.Op) -> Any:
            if isinstance(op, ops.Commits):
                self._now = await recorder.commit(op.events)
                return None
            if isinstance(op, ops.Lease):
                return await recorder.lease()
            assert isinstance(op, ops.Perform)
            await models.definitions.keep(definition_of(request), recorder.objects.put)
            try:
                with recorder.performing(key):
                    async with asyncio.timeout(self._timeout_s) as bound:
                        return await answering.ask(models.model, request)
            except TimeoutError:
                if not bound.expired():
                    raise
                return self._late(key, answering.attempt)

        result = await self._restored(await ops.drive(perform_step(self._journal, wanted), answer))
        if isinstance(result, StepFailedEvent):
            raise StepFailed(result.error)
        self.replay.usages.append(result.usage)
        message = message_of(result)
        self._conversations.answered(key, asked, message)
        return key, message

    # A tool's context comes from its runner: whoever makes a call leaves it out.

    @overload
    async def tool(
        self, tool: Tool[Concatenate[ToolContext, P], Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    @overload
    async def tool(self, tool: Tool[Concatenate[ToolContext, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    async def tool(self, tool: Tool[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    async def tool(self, tool: Tool[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    async def tool(self, tool: str, arguments: dict[str, Any] = ..., /, *, timeout_s: float | None = ...) -> Any: ...

    async def tool(self, tool: Tool[Any, Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Has a tool runner make a call, once, and returns its recorded result.

        By the tool itself the call is written like one of the function; by name it takes its arguments as a dict and
        an optional `timeout_s`. A task that waits for nothing but tools for longer than a second is suspended and
        holds no worker.

        *Delivery:* an idempotent tool is repeated if its runner dies; another one ends as OutcomeUnknown.
        *Cancellation:* the tool is stopped; no result of it counts any more.

        Raises: StepFailed with the recorded error, OutcomeUnknown, InvalidInput for arguments that do not fit.
        """
        if isinstance(tool, str):
            return await self._call_by_name(self._tools(tool), *args, **kwargs)
        found = self._tools(tool.name)
        arguments = found.bind(args, kwargs)
        return value_of(await self._call_tool(found, self._key(found.name), arguments, None), found.output_type)

    async def _call_by_name(
        self, tool: Tool[Any, Any], arguments: dict[str, Any] | None = None, /, *, timeout_s: float | None = None
    ) -> Any:
        if timeout_s is not None and not 0 < timeout_s < math.inf:
            raise InvalidInput(f"the time-out of tool '{tool.name}' is a positive number of seconds, not {timeout_s}")
        plain = tool.check({} if arguments is None else arguments)
        return value_of(await self._call_tool(tool, self._key(tool.name), plain, timeout_s), tool.output_type)

    async def make_call(self, tool: Tool[Any, Any], arguments: dict[str, Any]) -> tuple[str, Any]:
        """Makes a call that a model asked for: the key of its step, and the plain values that its log holds.

        Raises: StepFailed, OutcomeUnknown.
        """
        key = self._key(tool.name)
        result = await self._call_tool(tool, key, arguments, None)
        return key, value_of(result, Any)

    async def _call_tool(
        self, tool: Tool[Any, Any], key: str, arguments: dict[str, Any], timeout_s: float | None
    ) -> StepCompleted | StepFailedEvent:
        wanted = Step(key=key, kind="tool", name=tool.name, idempotent=tool.policy.idempotent, input=arguments)
        if self._timeout_s is not None:
            timeout_s = min(self._timeout_s, timeout_s or tool.policy.timeout_s)
        await self.replay.check(wanted)

        async def answer(op: ops.Op) -> Any:
            if isinstance(op, ops.Commits):
                self._now = await self._recorder.commit(op.events)
                return None
            if isinstance(op, ops.Calls):
                return await self._recorder.call(wanted, timeout_s, again=op.again)
            assert isinstance(op, ops.Awaits)
            return await self._recorder.wait(op.step)

        return await self._restored(await ops.drive(call_step(self._journal, wanted), answer))

    async def _restored(self, result: StepCompleted | StepFailedEvent) -> StepCompleted | StepFailedEvent:
        self._now = self._journal.finished_at.get(result.step, self._now)
        with self.replay.handing():
            return await large.restore(result, self._recorder.objects)

    def _late(self, step: str, attempt: int) -> StepFailedEvent:
        message = f"step '{step}' did not end within {self._timeout_s:g} s"
        return StepFailedEvent(step=step, attempt=attempt, error=Error(code=codes.TOOL_TIMEOUT, message=message))

    async def emit_text(self, text: str) -> None:
        """Streams text to whoever tails the task.

        It is on its way at once and in the log with the next commit, at the latest after a second. A handler that is
        called again skips as much as the log holds.
        """
        _check_text(text, "the text")
        if self.replay.skip_text:
            skipped = min(self.replay.skip_text, len(text))
            self.replay.skip_text -= skipped
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
        if self.replay.caught_up:
            self._recorder.emits.set_progress(StepProgress(message=message, fraction=fraction))
            self._recorder.soon()

    async def emit_event(self, name: str, data: Any = None) -> None:
        """Adds an event of the application's own to the task's log."""
        _check_text(name, "an event's name")
        if self.replay.skip_events:
            self.replay.skip_events -= 1
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
        if self._recorder.stopping:
            raise TaskCancelled(f"task '{self.task.id}' was asked to stop")

    @property
    def cancelled(self) -> bool:
        """Whether the handler was cancelled because its task was: for what it began elsewhere, and now has to stop.

        A handler is also cancelled when it is set aside (it waits for others, its worker leaves) and goes on later.
        """
        return self._recorder.cancelled

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

    @property
    def usage(self) -> Usage | None:
        """What the model steps so far used, summed; None if there were none."""
        return total_usage(self.replay.usages) if self.replay.usages else None

    def _key(self, name: str) -> str:
        _check_text(name, "a step's name")
        return self.replay.key(name, self._prefix)


def _check_text(text: str, what: str) -> None:
    if not isinstance(text, str):
        raise InvalidInput(f"{what} is no text but {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{what} is no valid Unicode: {error.reason} at character {error.start}") from error


__all__ = ["Context", "Recorder", "TaskInfo"]
