"""JSON Schema of every message, generated from the structs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct

from mesh.schema.messages import MESSAGES
from schemas.envelope import EVENTS, Event
from schemas.message import Message, Recipe

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
DEFS: Final = "#/$defs/"
# What a model step has as its input and as its output, where the log says any value.
OF_MODEL_STEPS: Final[set[type[Struct]]] = {Recipe, Message}
Shape = dict[str, Any]


def schemas() -> Shape:
    """All shapes in one document; `x-messages` says which of them is the body of which message."""
    messages = {name: {"$ref": f"{DEFS}{one.body.__name__}"} for name, one in MESSAGES.items()}
    head = {"$schema": DIALECT, "title": "Messages of the mesh", "x-messages": messages}
    return {**head, "$defs": shapes(DEFS)}


def schema_of(name: str) -> Shape:
    """The shape of one message, with the shapes it is made of.

    Raises: KeyError.
    """
    message, all_shapes = MESSAGES[name], shapes(DEFS)
    wanted = _reachable(message.body.__name__, all_shapes)
    used = {key: shape for key, shape in all_shapes.items() if key in wanted}
    return {"$schema": DIALECT, "$ref": f"{DEFS}{message.body.__name__}", "title": message.summary, "$defs": used}


def shapes(place: str) -> dict[str, Shape]:
    """Every shape by the name of its struct; references begin with `place`."""
    bodies = {one.body for one in MESSAGES.values()}
    types = sorted(bodies | set(EVENTS.values()) | OF_MODEL_STEPS, key=lambda one: one.__name__)
    _, found = msgspec.json.schema_components([_describable(one) for one in types], ref_template=f"{place}{{name}}")
    found[Event.__name__] = _event(place, found[Event.__name__])
    return {name: _plain(found[name]) for name in sorted(found)}


def _describable(body: type[Struct]) -> type[Struct]:
    """The same struct, with any value where raw JSON is the default: msgspec cannot write that default down."""
    fields = msgspec.structs.fields(body)
    if not any(isinstance(field.default, Raw) for field in fields):
        return body
    shown: list[Any] = [
        (field.name, Any, UNSET) if isinstance(field.default, Raw)
        else (field.name, field.type) if field.required
        else (field.name, field.type, field.default)
        for field in fields
    ]  # fmt: skip
    return msgspec.defstruct(body.__name__, shown, namespace={"__doc__": body.__doc__}, kw_only=True)


def _event(place: str, shape: Shape) -> Shape:
    """One of the known events, or one of a later version."""
    known = [
        {
            "properties": {"type": {"const": name}, "data": {"$ref": f"{place}{body.__name__}"}},
            "required": ["type", "data"],
        }
        for name, body in EVENTS.items()
    ]
    later = {"properties": {"type": {"type": "string", "not": {"enum": list(EVENTS)}}}, "required": ["type", "data"]}
    return {**shape, "anyOf": [*known, later]}


def _plain(shape: Any) -> Any:
    """The same with descriptions as running text."""
    if isinstance(shape, Mapping):
        plain = {key: _plain(value) for key, value in shape.items()}
        if isinstance(plain.get("description"), str):
            plain["description"] = inspect.cleandoc(plain["description"])
        return plain
    return [_plain(one) for one in shape] if isinstance(shape, list | tuple) else shape


def _reachable(name: str, all_shapes: Mapping[str, Shape]) -> set[str]:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        seen.add(here := waiting.pop())
        waiting += [one for one in _references(all_shapes[here]) if one not in seen]
    return seen


def _references(shape: Any) -> list[str]:
    if isinstance(shape, Mapping):
        own = [shape["$ref"].removeprefix(DEFS)] if isinstance(shape.get("$ref"), str) else []
        return own + [one for value in shape.values() for one in _references(value)]
    return [one for value in shape for one in _references(value)] if isinstance(shape, list) else []
