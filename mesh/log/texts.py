"""The text that a log holds: what a handler streamed, and the text parts of what its models answered."""

from __future__ import annotations

from typing import Any

import msgspec

from mesh.log.head import Entry
from mesh.log.large import Objects, restore
from schemas.envelope import Event
from schemas.message import Message
from schemas.step import StepCompleted, TextAdded


def texts_in(data: Any) -> tuple[TextAdded, ...]:
    """The text that an event adds; nothing where it is kept apart, see `with_texts`."""
    if isinstance(data, TextAdded):
        return (data,)
    if not isinstance(data, StepCompleted) or not data.streamed or data.output_ref is not None:
        return ()
    try:
        parts = msgspec.convert(data.output, Message).parts
    except msgspec.ValidationError:
        return ()  # a later version's form
    return tuple(
        TextAdded(
            text=parts[one.part].text, offset=0, attempt=data.attempt, step=data.step, part=one.part, chunks=one.chunks
        )
        for one in data.streamed
        if one.part < len(parts)
    )  # fmt: skip


def lacks_text(entry: Entry) -> bool:
    """Whether text of this commit is kept in the object store."""
    return any(_is_apart(event) for event in entry.commit.events)


async def with_texts(entry: Entry, objects: Objects) -> Entry:
    """The commit with all its text; raises ArtifactMissing."""
    if not lacks_text(entry):
        return entry
    events = [
        Event(event.type, await restore(event.data, objects)) if _is_apart(event) else event
        for event in entry.commit.events
    ]
    return Entry(entry.seq, msgspec.structs.replace(entry.commit, events=tuple(events)))


def _is_apart(event: Event) -> bool:
    data = event.data
    return isinstance(data, StepCompleted) and bool(data.streamed) and data.output_ref is not None
