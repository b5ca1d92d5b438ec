"""Messages between our form and pydantic-ai's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pydantic_core
from msgspec import Struct
from pydantic_ai import messages as theirs
from pydantic_ai.models import Model

from mesh.models.provider.prices import cost_of, usage_of
from schemas.message import ASSISTANT, REASONING, TEXT, TOOL, TOOL_CALL, TOOL_RESULT, Message, Part


class Origin(Struct, frozen=True):
    """Who writes an answer: `provider` (with the host of a server of one's own) and `api`, the protocol.

    Only the same origin is given `ext` and reasoning back. Elsewhere a signature is refused, and reasoning would be
    read as something the assistant or even the user has said.
    """

    provider: str
    api: str


def to_theirs(
    messages: Sequence[Message], instructions: str, model: Model, origin: Origin
) -> list[theirs.ModelMessage]:
    """The conversation for this model; users' and tools' messages in a row become one request."""
    converted: list[theirs.ModelMessage] = []
    for message in messages:
        if message.role == ASSISTANT:
            if answer := _answer(message, origin, model):
                converted.append(answer)
        elif converted and isinstance(converted[-1], theirs.ModelRequest):
            converted[-1].parts = [*converted[-1].parts, *_request_parts(message)]
        else:
            # Each carries the instructions, so that none of them looks like a change in mid-conversation.
            converted.append(theirs.ModelRequest(parts=_request_parts(message), instructions=instructions or None))
    if not any(isinstance(one, theirs.ModelRequest) for one in converted):
        converted.insert(0, theirs.ModelRequest(parts=[], instructions=instructions or None))
    return converted


def to_ours(response: theirs.ModelResponse, origin: Origin, *, priced: bool) -> Message:
    """An answer; its parts keep their places, because deltas were numbered by them."""
    parts = tuple(_our_part(part) for part in response.parts)
    has_calls = any(part.kind == TOOL_CALL for part in parts)
    cost, prices = cost_of(response) if priced else (None, "")
    # The Responses API says `stop` for an answer with calls as well.
    reason = "tool_call" if has_calls and response.finish_reason in ("stop", None) else response.finish_reason
    return Message(
        role=ASSISTANT,
        parts=parts,
        provider=origin.provider,
        model=response.model_name or "",
        api=origin.api,
        finish_reason=reason or "stop",
        usage=usage_of(response, cost),
        prices=prices,
    )


def arguments_of(part: theirs.ToolCallPart) -> str:
    """The arguments as the model wrote them, valid or not; an empty object where it wrote nothing."""
    return part.args if part.args and isinstance(part.args, str) else part.args_as_json_str()


def _request_parts(message: Message) -> list[theirs.ModelRequestPart]:
    parts: list[theirs.ModelRequestPart] = []
    for part in message.parts:
        if part.kind == TOOL_RESULT and message.role == TOOL:
            outcome: Literal["failed", "success"] = "failed" if part.failed else "success"
            parts.append(theirs.ToolReturnPart(part.tool, part.content, part.call, outcome=outcome))
        elif part.kind == TEXT:
            parts.append(theirs.UserPromptPart(part.text))
    return parts


def _answer(message: Message, origin: Origin, model: Model) -> theirs.ModelResponse | None:
    """An answer of the past; None if nothing of it can be shown to this model."""
    same = Origin(message.provider, message.api) == origin
    parts = _answer_parts(message, same=same, system=model.system)
    if not parts:
        return None
    if not same:
        return theirs.ModelResponse(parts=parts)
    return theirs.ModelResponse(
        parts=parts, model_name=message.model, provider_name=model.system, canonical_system=model.canonical_system
    )


def _answer_parts(message: Message, *, same: bool, system: str) -> list[theirs.ModelResponsePart]:
    parts: list[theirs.ModelResponsePart] = []
    for part in message.parts:
        ext = part.ext if same and part.ext else {}
        known: dict[str, Any] = {"id": ext.get("id"), "provider_details": ext.get("details")}
        if ext:
            known["provider_name"] = system
        if part.kind == TEXT and part.text:
            parts.append(theirs.TextPart(part.text, **known))
        elif part.kind == TOOL_CALL:
            parts.append(theirs.ToolCallPart(part.tool, part.arguments, part.call, **known))
        elif part.kind == REASONING and same:
            parts.append(theirs.ThinkingPart(part.text, signature=ext.get("signature"), **known))
    return parts


def _our_part(part: theirs.ModelResponsePart) -> Part:
    match part:
        case theirs.TextPart():
            return Part(kind=TEXT, text=part.content, ext=_ext(part.id, part.provider_details))
        case theirs.ThinkingPart():
            ext = _ext(part.id, part.provider_details, part.signature)
            return Part(kind=REASONING, text=part.content, ext=ext)
        case theirs.ToolCallPart():
            return Part(
                kind=TOOL_CALL,
                call=part.tool_call_id,
                tool=part.tool_name,
                arguments=arguments_of(part),
                ext=_ext(part.id, part.provider_details),
            )
        case _:
            return Part(kind=part.part_kind)


def _ext(id: str | None, details: dict[str, Any] | None, signature: str | None = None) -> dict[str, Any] | None:
    given = {"id": id, "signature": signature, "details": details}
    kept: dict[str, Any] = {key: value for key, value in given.items() if value}
    return pydantic_core.to_jsonable_python(kept) if kept else None
