"""A model step: what it asks, its pieces on their way, and what the log keeps of it.

The log keeps what the step adds: the answer, and its text with the time of each piece. It never keeps the prompt, only
its digest and how to put it together again, so that a long conversation grows by its answers alone.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from mesh.agents.deltas import Source, Teller
from mesh.agents.tools import Tool
from mesh.errors import ModelNotConfigured, ModelRejected, ModelUnavailable, OutputInvalid
from mesh.models.api import Model, ModelAnswer, ModelDelta, ModelRequest, ModelRetry, OutputSpec, ToolSpec
from mesh.models.output import correction, output_of, read_output
from mesh.models.usage import total_usage
from schemas.envelope import Event, event
from schemas.message import TEXT, TOOL, Message, Part, tool_result, user_message
from schemas.object import digest_of
from schemas.step import StepCompleted, StepFailed, StepProgress, TextAdded
from schemas.task import Usage

STEP_NAME: Final = "model"
MAX_CORRECTIONS: Final = 3
NOT_RUN: Final = "This call was not made: the answer came with it. Call again if you still need it."
Prompt = str | Message | Sequence[Message]
ToolLike = Tool[Any, Any] | ToolSpec
Ask = Callable[[ModelRequest], Awaitable[tuple[str, Message]]]
_sorted = msgspec.json.Encoder(order="deterministic")


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
        self._told: dict[int, int] = {}
        self._chunks: dict[int, list[tuple[int, int]]] = {}
        self._began: dict[int, float] = {}

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
        except (ModelNotConfigured, ModelUnavailable, ModelRejected) as error:
            return StepFailed(step=self._step, attempt=self.attempt, error=error.to_error())
        raise AssertionError("a model ends with an answer or an error")

    def added(self, outcome: StepCompleted | StepFailed) -> tuple[Event, ...]:
        """The text that the log holds before the step's end."""
        if isinstance(outcome, StepFailed):
            return ()
        message = message_of(outcome)
        texts = [(number, part.text) for number, part in enumerate(message.parts) if part.kind == TEXT and part.text]
        return tuple(
            event(
                TextAdded(
                    text=text, offset=0, attempt=self.attempt, step=self._step, part=number,
                    chunks=tuple(self._chunks.get(number, ())),
                )
            )
            for number, text in texts
        )  # fmt: skip

    async def _tell(self, delta: ModelDelta) -> None:
        if not delta.text:
            return
        number, now = delta.part, time.monotonic()
        if number not in self._tellers:
            source = Source(step=self._step, part=number, kind=delta.kind, attempt=self.attempt)
            self._tellers[number] = self._recorder.teller(source)
            self._told[number], self._began[number], self._chunks[number] = 0, now, []
        self._chunks[number].append((int((now - self._began[number]) * 1000), len(delta.text)))
        offset = self._told[number]
        self._told[number] += len(delta.text)
        await self._tellers[number].tell(delta.text, offset)

    async def _retry(self, retry: ModelRetry) -> None:
        message = f"attempt {retry.attempt} in {retry.wait_s:.1f} s: {retry.reason}"
        await self._recorder.commit((event(StepProgress(step=self._step, message=message)),))
        self._begin()

    async def _complete(self, answer: ModelAnswer) -> StepCompleted:
        for teller in self._tellers.values():
            await teller.flush()
        message = answer.message
        return StepCompleted(
            step=self._step, attempt=self.attempt, output=msgspec.to_builtins(message), usage=message.usage
        )


class Definitions:
    """Which definitions this process has put into the object store."""

    def __init__(self) -> None:
        self._kept: set[str] = set()

    async def keep(self, body: bytes, put: Callable[[bytes], Awaitable[object]]) -> str:
        """Keeps a definition once; its digest."""
        digest = digest_of(body)
        if digest not in self._kept:
            await put(body)
            self._kept.add(digest)
        return digest


class ModelAccess:
    """The models that contexts of one process ask, and the definitions it has kept."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.definitions = Definitions()


async def until_it_fits(ask: Ask, request: ModelRequest, output_type: Any) -> Reply:
    """Asks, and sends back what does not fit the type; raises OutputInvalid after the last correction."""
    added: list[Message] = []
    used: list[Usage | None] = []
    problem = ""
    for _ in range(MAX_CORRECTIONS + 1):
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
        added.append(corrected(message, spec, problem))
    raise OutputInvalid(f"the model's answer did not fit after {MAX_CORRECTIONS} corrections: {problem}")


def definition_of(request: ModelRequest) -> bytes:
    """What stays the same over a conversation: everything but its messages."""
    return _sorted.encode(msgspec.structs.replace(request, messages=()))


def recipe(request: ModelRequest) -> dict[str, Any]:
    """What the log holds instead of the prompt: its digest, its definition's, and which messages it took."""
    return {
        "model": request.model,
        "definition": digest_of(definition_of(request)),
        "messages": [0, len(request.messages)],
        "prompt": digest_of(_sorted.encode(request)),
    }


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


def corrected(message: Message, spec: OutputSpec, problem: str) -> Message:
    """What is sent back for an answer that does not fit; it closes every call of that answer."""
    back = correction(message, spec, problem)
    closed = {part.call for part in back.parts if back.role == TOOL}
    others = tuple(tool_result(call, NOT_RUN, failed=True) for call in message.calls if call.call not in closed)
    return msgspec.structs.replace(back, parts=(*back.parts, *others)) if closed else back
