"""Model and tool steps in words: beside the text of a running task, and in its log as `mesh show` prints it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from mesh.cli.notes import Notes
from mesh.cli.plain import plain
from schemas.envelope import Event
from schemas.message import DOES_NOT_FIT, REASONING, TEXT, TOOL_CALL, Message, Part, Recipe
from schemas.object import ObjectRef
from schemas.step import StepCompleted, StepFailed, StepProgress, StepRequested, TextAdded
from schemas.task import Usage

MAX_NOTE_CHARS: Final = 100
MAX_SHOWN_CHARS: Final = 200
DIGEST_CHARS: Final = 15


class StepNotes:
    """Says on stderr what models and tools do; other steps of a handler are its own affair."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._requested: dict[str, StepRequested] = {}
        self._failures: list[str] = []

    def event(self, data: Any) -> None:
        """Takes note of one event of a tail."""
        if isinstance(data, StepProgress):
            self._progress(data)
        elif isinstance(data, StepRequested) and data.kind in ("model", "tool"):
            self._requested[data.step] = data
            if data.kind == "tool":
                self._notes.say(f"tool  {_label(data, MAX_NOTE_CHARS)}")
            else:
                for told in _told(data, but=self._failures):
                    self._notes.warn(f"model {told}")
        elif isinstance(data, StepCompleted | StepFailed) and data.step in self._requested:
            self._ended(self._requested.pop(data.step), data)

    def _progress(self, data: StepProgress) -> None:
        share = f"{data.fraction:4.0%} " if data.fraction is not None else ""
        who = self._requested.get(data.step)
        name = f"{who.name}: " if who else f"{data.step}: " if data.step else ""
        self._notes.say(f"{name}{share}{data.message}".rstrip())

    def _ended(self, requested: StepRequested, data: StepCompleted | StepFailed) -> None:
        label = f"{requested.kind:5} {_label(requested, MAX_NOTE_CHARS // 2)}"
        if isinstance(data, StepFailed):
            # What a tool says is a result for a model; a model's failure is told where it ends the task.
            why = f": {data.error.message}" if requested.kind == "tool" else ""
            self._failures.append(data.error.message)
            self._notes.warn(f"{label} failed ({data.error.code}){why}")
        elif requested.kind == "model":
            self._notes.say(f"{label}: {usage_in_words(data.usage)}")
        else:
            self._notes.say(f"{label} → {_result(data, MAX_NOTE_CHARS)}")


def shown(event: Event, requested: dict[str, StepRequested]) -> list[str] | None:
    """A step's event as lines after its type; None for one that reads well as it is. It keeps what was requested."""
    data = event.data
    if isinstance(data, TextAdded):
        where = f"step={data.step}  part={data.part}  " if data.step else ""
        return [f"{where}{shortened(data.text, MAX_SHOWN_CHARS)}"]
    if isinstance(data, StepRequested):
        requested[data.step] = data
        return _requested_in_words(data)
    if not isinstance(data, StepCompleted) or data.step not in requested:
        return None
    if requested[data.step].kind == "model":
        return _answer_in_words(data)
    return [f"{data.step}  → {_result(data, MAX_SHOWN_CHARS)}{_attempt(data)}"]


def usage_in_words(usage: Usage | None) -> str:
    """What model calls used; what is unknown is said to be."""
    if usage is None:
        return "usage unknown"
    cached = f" ({usage.cache_read_tokens} cached)" if usage.cache_read_tokens else ""
    reasoning = f" ({usage.reasoning_tokens} reasoning)" if usage.reasoning_tokens else ""
    cost = f"{usage.cost.amount} {usage.cost.currency}" if usage.cost else "cost unknown"
    plural = "" if usage.input_tokens == 1 else "s"
    return f"{usage.input_tokens} token{plural} in{cached}, {usage.output_tokens} out{reasoning}, {cost}"


def shortened(value: Any, limit: int) -> str:
    """A value as JSON, cut where it becomes long."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def _requested_in_words(data: StepRequested) -> list[str]:
    if data.kind == "model" and isinstance(data.input, dict):
        recipe = data.input
        digests = "  ".join(f"{name} {str(recipe.get(name))[:DIGEST_CHARS]}…" for name in ("prompt", "definition"))
        count = recipe.get("messages")
        asks = f"{data.step}  asks {recipe.get('model')} with {count} message{'' if count == 1 else 's'}  {digests}"
        return [asks, *(f"    {told}" for told in _told(data))]
    if data.kind == "tool":
        repeat = "idempotent" if data.idempotent else "never repeated"
        return [f"{data.step}  calls {_label(data, MAX_SHOWN_CHARS)}  {repeat}"]
    taken = f"  {shortened(data.input, MAX_SHOWN_CHARS)}" if data.input is not None else ""
    return [f"{data.step}  {data.kind}{taken}{'' if data.idempotent else '  never repeated'}"]


def _told(data: StepRequested, but: Sequence[str] = ()) -> list[str]:
    """What a model is told of its own mistakes: calls that it made wrongly, an answer that does not fit.

    A tool that failed is told to it, too; `but` are the failures that the reader has seen.
    """
    try:
        recipe = msgspec.convert(data.input, Recipe)
    except msgspec.ValidationError:
        return []
    lines = []
    for part in (part for message in recipe.added if recipe.after for part in message.parts):
        text = str(part.content) if part.failed else part.text
        if text.startswith(DOES_NOT_FIT):
            lines.append(f"told: {_cut(text)}")
        elif part.failed and not any(failure in text for failure in but):
            lines.append(f"told of {part.tool}: {_cut(text)}")
    return lines


def _cut(text: str) -> str:
    return plain(text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…")


def _answer_in_words(data: StepCompleted) -> list[str]:
    """What a model answered, part by part."""
    message = _message(data)
    reason = f"  {message.finish_reason}" if message else f"  {_kept(data.output_ref)}"
    lines = [f"{data.step}{reason}  {usage_in_words(data.usage)}{_attempt(data)}"]
    for part in message.parts if message else ():
        if part.kind == TOOL_CALL:
            lines.append(f"    calls {_call(part)}")
        elif part.kind in (TEXT, REASONING):
            verb = "says" if part.kind == TEXT else "thinks"
            lines.append(f"    {verb} {shortened(part.text, MAX_SHOWN_CHARS)}")
    return lines


def _label(data: StepRequested, limit: int) -> str:
    """What a step asks: a model by its name, a tool as a call."""
    if data.kind == "model":
        return str(data.input.get("model")) if isinstance(data.input, dict) else data.name
    return _called(data.name, data.input, limit) if data.input_ref is None else f"{data.name}({_kept(data.input_ref)})"


def _call(part: Part) -> str:
    try:
        return _called(part.tool, msgspec.json.decode(part.arguments or "{}"), MAX_SHOWN_CHARS)
    except (msgspec.DecodeError, RecursionError):
        return f"{part.tool} with arguments that are no JSON: {shortened(part.arguments, MAX_SHOWN_CHARS)}"


def _called(name: str, arguments: Any, limit: int) -> str:
    if not isinstance(arguments, dict):
        return f"{name}({shortened(arguments, limit)})"
    text = ", ".join(f"{key}={msgspec.json.encode(value).decode()}" for key, value in arguments.items())
    return f"{name}({text if len(text) <= limit else text[:limit] + '…'})"


def _result(data: StepCompleted, limit: int) -> str:
    return shortened(data.output, limit) if data.output_ref is None else _kept(data.output_ref)


def _kept(ref: ObjectRef | None) -> str:
    return f"{ref.size} bytes in the object store" if ref else "no answer"


def _message(data: StepCompleted) -> Message | None:
    try:
        return msgspec.convert(data.output, Message)
    except msgspec.ValidationError:
        return None


def _attempt(data: StepCompleted) -> str:
    return f"  attempt {data.attempt}" if data.attempt > 1 else ""
