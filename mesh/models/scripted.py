"""A model that answers from a script: for the offline demo, for tests and for benchmarks.

It asks nobody, needs no key, imports no provider's code, and says `scripted` wherever a provider would be named.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from mesh.errors import MeshError, ModelUnavailable
from mesh.models.api import ModelAnswer, ModelDelta, ModelEvent, ModelRequest
from schemas.delta import DeltaKind
from schemas.message import ASSISTANT, REASONING, TEXT, TOOL_CALL, TOOL_RESULT, Message, Part
from schemas.task import Money, Usage

PROVIDER: Final = "scripted"
_PIECE: Final = re.compile(r"\s*\S+|\s+")
_FREE: Final = Money(amount="0")


class Call(Struct, frozen=True):
    """A tool call of a scripted answer; `arguments` that are text go out as they are, valid JSON or not."""

    tool: str
    arguments: Any = msgspec.field(default_factory=dict)


class Reply(Struct, frozen=True, kw_only=True):
    """One scripted answer, streamed word by word with `pause_s` before each piece.

    With `error` it ends in that error after everything else was streamed: a `ModelUnavailable` after text is a stream
    that was cut.
    """

    text: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    pause_s: float = 0.0
    finish_reason: str = ""
    error: MeshError | None = None


Rule = Callable[[ModelRequest], Reply]


def in_turn(*replies: Reply) -> Rule:
    """Answers by how often the model has spoken in this conversation, and then from the first one again.

    It keeps no count of its own, so another process goes on where a killed one was.
    """

    def rule(request: ModelRequest) -> Reply:
        return replies[_turn(request) % len(replies)]

    return rule


def one_by_one(*replies: Reply) -> Rule:
    """Gives each reply once, whoever asks: for tests of retries, where the same request comes again."""
    left = iter(replies)

    def rule(request: ModelRequest) -> Reply:
        return next(left, Reply(error=ModelUnavailable(f"the script of {request.model} has ended")))

    return rule


def by_text(replies: Mapping[str, Reply], otherwise: Reply) -> Rule:
    """Gives the first reply whose pattern is found in the newest message, a tool's result included."""
    patterns = [(re.compile(pattern, re.IGNORECASE), reply) for pattern, reply in replies.items()]

    def rule(request: ModelRequest) -> Reply:
        text = newest_text(request)
        return next((reply for pattern, reply in patterns if pattern.search(text)), otherwise)

    return rule


def newest_text(request: ModelRequest) -> str:
    """What the newest message says, with tool results as JSON."""
    parts = request.messages[-1].parts if request.messages else ()
    return "\n".join(_json(part.content) if part.kind == TOOL_RESULT else part.text for part in parts)


class ScriptedModel:
    """A model whose answers a rule gives; the same request gets the same answer, call ids included."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Streams what the rule says; raises the reply's error at its end."""
        reply = self._rule(request)
        parts = _parts(reply, _turn(request))
        pieces = 0
        for delta in _deltas(parts):
            if reply.pause_s:
                await asyncio.sleep(reply.pause_s)
            pieces += 1
            yield delta
        if reply.error is not None:
            raise reply.error
        yield ModelAnswer(
            Message(
                role=ASSISTANT,
                parts=parts,
                provider=PROVIDER,
                model=request.model.partition(":")[2],
                api=PROVIDER,
                finish_reason=reply.finish_reason or ("tool_call" if reply.calls else "stop"),
                usage=Usage(input_tokens=_words(request), output_tokens=pieces, requests=1, cost=_FREE),
            )
        )


def _parts(reply: Reply, turn: int) -> tuple[Part, ...]:
    parts = [Part(kind=kind, text=text) for kind, text in ((REASONING, reply.reasoning), (TEXT, reply.text)) if text]
    calls = [
        Part(
            kind=TOOL_CALL,
            call=f"call_{turn + 1}_{number}",
            tool=call.tool,
            arguments=call.arguments if isinstance(call.arguments, str) else _json(call.arguments),
        )
        for number, call in enumerate(reply.calls, 1)
    ]
    return (*parts, *calls)


def _deltas(parts: tuple[Part, ...]) -> list[ModelDelta]:
    deltas = []
    for place, part in enumerate(parts):
        if part.kind == TOOL_CALL:
            deltas.append(ModelDelta(place, "tool_arguments", part.arguments, part.call, part.tool))
        else:
            kind: DeltaKind = "reasoning" if part.kind == REASONING else "text"
            deltas += [ModelDelta(place, kind, piece) for piece in _PIECE.findall(part.text)]
    return deltas


def _turn(request: ModelRequest) -> int:
    return sum(message.role == ASSISTANT for message in request.messages)


def _words(request: ModelRequest) -> int:
    """Something like tokens: the words of the newest message, so that a long history costs no time here."""
    return len(newest_text(request).split())


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
