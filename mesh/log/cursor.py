"""The cursor of a tail: where a reader stands in a task's log and in text that the log does not have yet.

Opaque to callers. `<sequence>.<events of that commit>.<claims>`, then for each (step, part) begun and not ended its
step, part, attempt and offsets. It holds no number of the delta stream, so it means the same on any replica.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from mesh.errors import InvalidInput

VERSION = 1


@dataclass(slots=True)
class Part:
    """Text of one (step, part): `told` characters went to the reader, `kept` of them stand in the log."""

    attempt: int = 0
    told: int = 0
    kept: int = 0


@dataclass(slots=True)
class Position:
    """A decoded cursor: `events` of the commit at `seq` have been seen, and `claims` of the task so far."""

    seq: int = 0
    events: int = 0
    claims: int = 0
    parts: dict[tuple[str, int], Part] = field(default_factory=dict)


def encode(position: Position) -> str:
    """The cursor of this position."""
    text = f"{VERSION}-{position.seq}.{position.events}.{position.claims}"
    for (step, number), part in position.parts.items():
        if part.told or part.kept:
            text += f"~{quote(step, safe='') if step else ''}:{number}:{part.attempt}:{part.told}:{part.kept}"
    return text


def decode(cursor: str) -> Position:
    """Reads a cursor; raises InvalidInput if it is not one of ours."""
    version, _, rest = cursor.partition("-")
    place, *parts = rest.split("~")
    try:
        if version != str(VERSION):
            raise ValueError(version)
        seq, events, claims = place.split(".")
        position = Position(int(seq), int(events), int(claims))
        for text in parts:
            step, number, attempt, told, kept = text.split(":")
            position.parts[unquote(step), int(number)] = Part(int(attempt), int(told), int(kept))
    except ValueError as error:
        raise InvalidInput(f"{cursor!r} is not a cursor", hint="pass a cursor as an event of `tail` gave it") from error
    return position
