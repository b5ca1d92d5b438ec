"""A model step: what it asks, its pieces on their way, and what the log keeps of it.

The log keeps what the step adds: the answer, and the time of each piece of its text; of the prompt only its recipe.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from itertools import count
from typing import Any, Final, Protocol, TypedDict

import msgspec
from msgspec import Struct

from mesh.agents.deltas import Source, Teller
from mesh.agents.pace import Pace
from mesh.agents.tools import Tool
from mesh.errors import ModelNotConfigured, ModelRejected, ModelUnavailable, OutputInvalid, TooLarge
from mesh.models.api import Model, ModelAnswer, ModelDelta, ModelRequest, ModelRetry, OutputSpec, ToolSpec
from mesh.models.output import correction, output_of, read_output
from mesh.models.usage import total_usage
from schemas.delta import MAX_DELTA_CHARS
from schemas.envelope import Event, event
from schemas.message import TEXT, TOOL, TOOL_CALL, Message, Part, tool_result, user_message
from schemas.object import MAX_VALUE_BYTES, digest_of
from schemas.step import StepCompleted, StepFailed, StepProgress, Streamed
from schemas.task import Usage

STEP_NAME: Final = "model"
MAX_CORRECTIONS: Final = 3
KEPT_S: Final = 3600.0
NOT_RUN: Final = "This call was not made: the answer came with it. Call again if you still need it."
Prompt = str | Message | Sequence[Message]
ToolLike = Tool[Any, Any] | ToolSpec
Ask = Callable[[ModelRequest], Awaitable[tuple[str, Message]]]


class Reply(Struct, frozen=True, kw_only=True):
    """What a model answered.

    `output` is the validated value of the `output_type` that was asked for, otherwise the text; None while the model
    calls tools. `messages` are what this adds to the conversation: corrections, if any, and at last the answer. `usage`
    is the sum over the corrections too. `step` is the key of the step that brought the answer.
    """

    step: str
    message: Message
    messages: tuple[Message, ...]
    usage: Usage
    output: Any = None
    calls: tuple[Part, ...] = ()

    @property
    def text(self) -> str:
        """The text of the answer."""
        return self.message.text


class Telling(Protocol):
    """What a model step needs of a recorder."""

    def attempt(self, step: str) -> int:
        """The number of the execution that begins now; a later one of the same step has a higher number."""
        ...

    def teller(self, source: Source) -> Teller:
        """Sends one text of one execution ahead of the log."""
        ...

    async def commit(self, events: tuple[Event, ...]) -> str:
        """Appends these events; returns their time."""
        ...


class Answering:
    """One model step under way: tells its pieces, and keeps what the log will want of them."""

    def __init__(self, recorder: Telling, step: str) -> None:
        self._recorder = recorder
        self._step = step
        self._begin()

    def _begin(self) -> None:
        self.attempt = self._recorder.attempt(self._step)
        self._tellers: dict[int, Teller] = {}
        self._paces: dict[int, Pace] = {}
        self._length = 0

    async def ask(self, model: Model, request: ModelRequest) -> StepCompleted | StepFailed:
        """Asks, and says what came of it; a cancellation closes the stream."""
        try:
            async with aclosing(model.stream(request)) as events:
                async for one in events:
                    if isinstance(one, ModelDelta):
                        await self._tell(one)
                    elif isinstance(one, ModelRetry):
                        await self._retry(one)
                    else:
                        return await self._complete(one)
        except (ModelNotConfigured, ModelUnavailable, ModelRejected, TooLarge) as error:
            return StepFailed(step=self._step, attempt=self.attempt, error=error.to_error())
        raise AssertionError("a model ends with an answer or an error")

    async def _tell(self, delta: ModelDelta) -> None:
        if not delta.text:
            return
        number = delta.part
        if number not in self._tellers:
            source = Source(step=self._step, part=number, kind=delta.kind, attempt=self.attempt)
            self._tellers[number], self._paces[number] = self._recorder.teller(source), Pace()
        offset = self._paces[number].length
        self._paces[number].add(len(delta.text))
        self._length += len(delta.text)
        _check_length(self._length)
        for begin in range(0, len(delta.text), MAX_DELTA_CHARS):
            await self._tellers[number].tell(delta.text[begin : begin + MAX_DELTA_CHARS], offset + begin)

    async def _retry(self, retry: ModelRetry) -> None:
        message = f"attempt {retry.attempt} in {retry.wait_s:.1f} s: {retry.reason}"
        await self._recorder.commit((event(StepProgress(step=self._step, message=message)),))
        self._begin()

    async def _complete(self, answer: ModelAnswer) -> StepCompleted:
        for teller in self._tellers.values():
            await teller.flush()
        message = with_distinct_calls(answer.message)
        _check_length(len(msgspec.json.encode(message)))
        return StepCompleted(
            step=self._step, attempt=self.attempt, output=msgspec.to_builtins(message), usage=message.usage,
            streamed=tuple(
                Streamed(number, self._paces[number].chunks if number in self._paces else ())
                for number, part in enumerate(message.parts)
                if part.kind == TEXT and part.text
            ),
        )  # fmt: skip


class Definitions:
    """Which definitions this process has put into the object store, and when.

    They are put again from time to time: what no log refers to for a day is removed there.
    """

    def __init__(self) -> None:
        self._kept: dict[str, float] = {}

    async def keep(self, body: bytes, put: Callable[[bytes], Awaitable[object]]) -> str:
        """Keeps a definition; its digest."""
        digest, now = digest_of(body), time.monotonic()
        if now - self._kept.get(digest, -KEPT_S) >= KEPT_S:
            await put(body)
            self._kept[digest] = now
        return digest


class ModelAccess:
    """The models that contexts of one process ask, and the definitions it has kept."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.definitions = Definitions()


class Corrections(TypedDict, total=False):
    """How often an answer that does not fit is sent back; see `Context.model`."""

    max_corrections: int
    max_tokens: int | None


async def until_it_fits(
    ask: Ask, request: ModelRequest, output_type: Any, *, max_corrections: int = MAX_CORRECTIONS,
    max_tokens: int | None = None,
) -> Reply:  # fmt: skip
    """Asks, and sends back what does not fit the type; raises OutputInvalid after the last correction."""
    added: list[Message] = []
    used: list[Usage | None] = []
    while True:
        key, message = await ask(msgspec.structs.replace(request, messages=(*request.messages, *added)))
        added.append(message)
        used.append(message.usage)
        spec = request.output
        text = message.text if spec is None else output_of(message, spec)
        reply = Reply(step=key, message=message, messages=tuple(added), usage=total_usage(used))
        if spec is None or text is None:
            output = None if message.calls else text
            return msgspec.structs.replace(reply, output=output, calls=message.calls)
        try:
            return msgspec.structs.replace(reply, output=read_output(text, output_type, spec))
        except msgspec.DecodeError as error:
            problem = str(error)
        spent = reply.usage.input_tokens + reply.usage.output_tokens
        if len(used) > max_corrections or (max_tokens is not None and spent >= max_tokens):
            raise OutputInvalid(f"the model's answer did not fit after {len(used) - 1} corrections: {problem}")
        added.append(corrected(message, spec, problem))


def messages_of(prompt: Prompt) -> tuple[Message, ...]:
    """A prompt as a conversation."""
    if isinstance(prompt, str):
        return (user_message(prompt),)
    return (prompt,) if isinstance(prompt, Message) else tuple(prompt)


def spec_of(tool: ToolLike) -> ToolSpec:
    """A tool as a model sees it."""
    return tool if isinstance(tool, ToolSpec) else tool.spec()


def message_of(outcome: StepCompleted) -> Message:
    """The answer that a model step recorded."""
    return msgspec.convert(outcome.output, Message)


def with_distinct_calls(message: Message) -> Message:
    """The message with a different id for each of its tool calls, whatever the provider sent.

    A call's id is a part of its step's key, and how its result finds it.
    """
    ids = [part.call for part in message.calls]
    if all(ids) and len(set(ids)) == len(ids):
        return message
    taken, parts = {"", *ids}, list[Part]()
    for part in message.parts:
        if part.kind == TOOL_CALL and (not part.call or any(part.call == before.call for before in parts)):
            number = next(n for n in count(2) if f"{part.call or 'call'}-{n}" not in taken)
            parts.append(msgspec.structs.replace(part, call=f"{part.call or 'call'}-{number}"))
            taken.add(parts[-1].call)
        else:
            parts.append(part)
    return msgspec.structs.replace(message, parts=tuple(parts))


def _check_length(length: int) -> None:
    if length > MAX_VALUE_BYTES:
        raise TooLarge(f"the model's answer is over the limit of {MAX_VALUE_BYTES} bytes")


def corrected(message: Message, spec: OutputSpec, problem: str) -> Message:
    """What is sent back for an answer that does not fit; it closes every call of that answer."""
    back = correction(message, spec, problem)
    closed = {part.call for part in back.parts if back.role == TOOL}
    others = tuple(tool_result(call, NOT_RUN, failed=True) for call in message.calls if call.call not in closed)
    return msgspec.structs.replace(back, parts=(*back.parts, *others)) if closed else back
