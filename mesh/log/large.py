"""Large values: out of a message before it is sent, back in after it was read.

A struct with a field `x` and beside it `x_ref` may have its value in the object store: then `x_ref` says where, and `x`
is absent. The value's JSON is the object, so equal values are kept once. Nothing here decides who must see the value:
most readers of a log do not, and leave it where it is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from functools import cache
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec import NODEFAULT, UNSET, Struct
from msgspec.structs import fields, replace

from mesh.errors import InvalidInput
from schemas import envelope
from schemas.envelope import Commit, Event
from schemas.object import LARGE_BYTES, MAX_VALUE_BYTES, ObjectRef
from schemas.unreadable import UNREADABLE

S = TypeVar("S", bound=Struct)
# What a reference takes in a message, at the most; a value shorter than this is never moved.
_REF_BYTES: Final = 256


class Objects(Protocol):
    """Where bodies are kept by digest."""

    async def put(self, source: bytes | AsyncIterable[bytes], media_type: str = ...) -> ObjectRef:
        """Keeps a body; the same content is kept once."""
        ...

    async def read(self, digest: str, *, max_bytes: int | None = ...) -> bytes:
        """A whole body; raises ArtifactMissing, and TooLarge past `max_bytes`."""
        ...

    def open(self, digest: str) -> AsyncGenerator[bytes]:
        """A body piece by piece; raises ArtifactMissing."""
        ...


async def spill(data: S, objects: Objects) -> S:
    """The struct, its value in the object store if that is large."""
    body = _body_of(data)
    return await _moved(data, body, objects) if len(body) > LARGE_BYTES else data


async def spill_commit(commit: Commit, size: int, objects: Objects) -> Commit:
    """The commit of this size without its large values, and without others too until it fits its limit."""
    events = list(commit.events)
    bodies = [_body_of(event.data) for event in events]
    for index in sorted(range(len(events)), key=lambda index: len(bodies[index]), reverse=True):
        body = bodies[index]
        if len(body) <= _REF_BYTES or (len(body) <= LARGE_BYTES and size <= envelope.MAX_COMMIT_BYTES):
            break
        events[index] = Event(events[index].type, await _moved(events[index].data, body, objects))
        size -= len(body) - _REF_BYTES
    return replace(commit, events=tuple(events))


async def restore(data: S, objects: Objects) -> S:
    """The struct with its value in place.

    Raises: ArtifactMissing, TooLarge, InvalidInput for what is no JSON.
    """
    name = _value_field(type(data))
    ref: ObjectRef | None = getattr(data, f"{name}_ref") if name else None
    if ref is None:
        return data
    body = await objects.read(ref.digest, max_bytes=MAX_VALUE_BYTES)
    try:
        value = msgspec.json.decode(body)
    except UNREADABLE as error:
        raise InvalidInput(f"the {name} kept under {ref.digest} is no JSON: {error}") from error
    return replace(data, **{name: value, f"{name}_ref": None})


async def _moved(data: S, body: bytes, objects: Objects) -> S:
    name = _value_field(type(data))
    return replace(data, **{name: _absent(type(data), name), f"{name}_ref": await objects.put(body)})


def _body_of(data: Any) -> bytes:
    """The JSON of a struct's value; nothing where there is none that could be moved."""
    name = _value_field(type(data)) if isinstance(data, Struct) else ""
    value = getattr(data, name) if name else None
    return b"" if value is None or value is UNSET else msgspec.json.encode(value)


@cache
def _value_field(kind: type[Struct]) -> str:
    names = kind.__struct_fields__
    return next((name for name in names if f"{name}_ref" in names), "")


def _absent(kind: type[Struct], name: str) -> Any:
    field = next(field for field in fields(kind) if field.name == name)
    return field.default_factory() if field.default_factory is not NODEFAULT else field.default


__all__ = ["Objects", "restore", "spill", "spill_commit"]
