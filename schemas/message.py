"""A conversation with a model, in our own form: what a log keeps and any provider can be given.

    part         uses
    text         text
    reasoning    text
    tool_call    call, tool, arguments
    tool_result  call, tool, content, failed, step

A part of a kind not listed here is kept and shown to no model.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from schemas.task import Usage

USER: Final = "user"
ASSISTANT: Final = "assistant"
TOOL: Final = "tool"

TEXT: Final = "text"
REASONING: Final = "reasoning"
TOOL_CALL: Final = "tool_call"
TOOL_RESULT: Final = "tool_result"

# How a text begins that sends an answer back to its model; whoever shows a log knows it by that.
DOES_NOT_FIT: Final = "The answer does not fit: "


class Part(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One part of a message; the table above says which fields a kind uses.

    `arguments` is the JSON text as the model wrote it, which may be no valid JSON. `content` is any JSON value; if a
    step gave it, `step` is that step's key, and a log leaves the value out. `ext` is what the provider wants back with
    this part, and means nothing to anybody else.
    """

    kind: str
    text: str = ""
    call: str = ""
    tool: str = ""
    arguments: str = ""
    content: Any = None
    failed: bool = False
    step: str = ""
    ext: dict[str, Any] | None = None


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a user said, a model answered, or tools gave back.

    The fields after `parts` are an assistant's. `provider` and `api` say who wrote it, by what protocol; only the same
    two get `ext` and reasoning back. `finish_reason` is `stop`, `tool_call`, `length` or `content_filter`. `usage` None
    is unknown; `prices` names the price list that its cost was read from.
    """

    role: str
    parts: tuple[Part, ...] = ()
    provider: str = ""
    model: str = ""
    api: str = ""
    finish_reason: str = ""
    usage: Usage | None = None
    prices: str = ""

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join(part.text for part in self.parts if part.kind == TEXT)

    @property
    def calls(self) -> tuple[Part, ...]:
        """The tool calls, in the order of the stream."""
        return tuple(part for part in self.parts if part.kind == TOOL_CALL)


class Recipe(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a log holds of a model step's prompt: what the step adds to it, and how to put the whole together again.

    The messages are those of the step `after` and its answer, if there is such a step; then the task's input, if
    `input` says so; then those `added` here: `messages` in all. `definition` is the digest of everything else that the
    model was asked with, and the name of an object; `prompt` is the digest of the whole.
    """

    model: str
    definition: str
    prompt: str
    messages: int
    after: str = ""
    input: bool = False
    added: tuple[Message, ...] = ()


def user_message(text: str) -> Message:
    """What a user said."""
    return Message(role=USER, parts=(Part(kind=TEXT, text=text),))


def tool_message(*results: Part) -> Message:
    """What tools gave back; every call of the message before needs its result."""
    return Message(role=TOOL, parts=results)


def tool_result(call: Part, content: Any, *, failed: bool = False, step: str = "") -> Part:
    """The result of this tool call; `step` is the key of the step that made it."""
    return Part(kind=TOOL_RESULT, call=call.call, tool=call.tool, content=content, failed=failed, step=step)
