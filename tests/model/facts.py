"""What has happened outside of the logs, by name, and which of it a task's end asks for."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.log.head import EXECUTOR, Entry
from schemas import error as codes
from schemas import task
from schemas.command import DeadLetter
from tests.model.invariants import has_result
from tests.model.parts import Do, Program

TOLD_END = "told that it ended"


def told(seq: int, n: int) -> str:
    """A runner has told commit `n` as one that stands at `seq`."""
    return f"told of commit {n} as @{seq}"


def undone(step: str) -> str:
    """A handler has undone what this step began."""
    return f"undone {step}"


def dead(letter: DeadLetter) -> str:
    """There is such a dead letter."""
    return " ".join(filter(None, ("dead", letter.error.code if not letter.body else letter.body)))


def owed(entries: tuple[Entry, ...], program: Program) -> Iterator[str]:
    """What must have happened when a task has ended like this; what a router ended, no handler has undone."""
    last, first = entries[-1].commit.events[-1], entries[0].commit.events[0]
    if last.type == task.FAILED and last.data.error.code == codes.ATTEMPTS_EXHAUSTED:
        yield f"dead {codes.ATTEMPTS_EXHAUSTED}"
    if first.type == task.ACCEPTED and first.data.parent is not None:
        yield TOLD_END
    for part in program if entries[-1].commit.by.startswith(EXECUTOR) else ():
        if isinstance(part, Do) and part.undo and has_result(entries, part.key):
            yield undone(part.key)
