"""Structured answers: how they are asked for, read, and sent back when they do not fit."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from mesh.models.api import OUTPUT_TOOL, OutputMode, OutputSpec
from mesh.models.schema import object_schema
from schemas.message import DOES_NOT_FIT, Message, tool_message, tool_result, user_message

_FENCED: Final = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)


def output_spec(kind: Any, *, name: str = OUTPUT_TOOL, description: str = "", mode: OutputMode = "auto") -> OutputSpec:
    """How an answer of this type is asked for; raises TypeError for one that msgspec cannot read."""
    schema, wrapped = object_schema(kind)
    return OutputSpec(schema=schema, name=name, description=description, mode=mode, wrapped=wrapped)


def output_of(message: Message, spec: OutputSpec) -> str | None:
    """The JSON text of the structured answer; None while the model asks for tools instead.

    A model may answer in text although a tool was asked for, and the reverse; both are taken.
    """
    for part in message.calls:
        if part.tool == spec.name:
            return part.arguments
    if message.calls:
        return None
    fenced = _FENCED.fullmatch(message.text)
    return fenced[1] if fenced else message.text


def read_output(text: str, kind: Any, spec: OutputSpec) -> Any:
    """The value of a structured answer; raises msgspec.DecodeError, whose text is for the model."""
    if not spec.wrapped:
        return _decode(text, kind)
    body = _decode(text, dict[str, msgspec.Raw])
    if "value" not in body:
        raise msgspec.ValidationError("Object missing required field `value`")
    return _decode(body["value"], kind)


def correction(message: Message, spec: OutputSpec, problem: str) -> Message:
    """What to send back for an answer that does not fit; it closes the output call if there is one.

    Other calls of the same message are open still and need their results beside it.
    """
    text = f"{DOES_NOT_FIT}{problem}. Answer again, with JSON that fits the schema."
    for part in message.calls:
        if part.tool == spec.name:
            return tool_message(tool_result(part, text, failed=True))
    return user_message(text)


def _decode(text: str | msgspec.Raw, kind: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except RecursionError as error:
        raise msgspec.ValidationError("The JSON is nested too deeply") from error
