"""Task signals: requests of a caller to a task, the router's answer, and what is told over core NATS."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Raw, Struct

from schemas.error import Error

CANCEL: Final = "cancel"
STEER: Final = "steer"


class TaskSignal(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request to a task, on `mesh.signal.<root>.<task>`.

    `id` makes it exactly once: a repeat of the same id is answered, not appended again. The router answers on the
    core subject `reply`, if one is given and begins with `_INBOX`.
    """

    kind: str
    id: str
    reply: str = ""
    reason: str = ""
    body: Any = None


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a task signal.

    `outcome` is `appended`, `known` (this id was seen before), `ended` (the task had ended), `ended_now` (this signal
    ended it), `tombstone` (no such task: one that comes is canceled) or `refused`; `phase` is the task's afterwards.
    """

    task: str
    outcome: str
    phase: str = ""
    error: Error | None = None


class Broadcast(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Stop now, on `mesh.cancel.<root>`: the fast path; only the log ends a task."""

    task: str
    reason: str = ""


class Told(Struct, frozen=True, kw_only=True):
    """A commit that its writer has stored at `seq`, for who waits for it: ahead of the log, and never instead."""

    seq: int
    commit: Raw
