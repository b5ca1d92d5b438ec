"""Questions to the session store and its answers, by request and reply on `mesh.session.*`.

An answer shows the log up to `sequence`, all of it and nothing later. A request that names a `sequence` is answered
when the view has come so far, or after `wait_s` with an error.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from schemas.error import Error
from schemas.object import ObjectRef
from schemas.step import ArtifactAdded
from schemas.task import Usage

MAX_LIMIT: Final = 100
DEFAULT_LIMIT: Final = 50
DEFAULT_WAIT_S: Final = 5.0
MAX_WAIT_S: Final = 60.0

USER: Final = "user"
ASSISTANT: Final = "assistant"

STARTED: Final = "started"
DONE: Final = "done"
FAILED: Final = "failed"


class TaskRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One task as a list shows it.

    `sequence` is that of its newest commit and `first` of its oldest, `status_sequence` of the one that led to its
    state and phase; the broker took that one at `status_at`. `submit` is that of its submit in the work stream, 0 where
    there was none.
    """

    id: str
    state: str
    phase: str
    agent: str = ""
    pool: str = ""
    owner: str = ""
    context_id: str = ""
    parent: str | None = None
    submit: int = 0
    first: int = 0
    sequence: int = 0
    commits: int = 0
    claims: int = 0
    status_sequence: int = 0
    submitted_at: str = ""
    started_at: str | None = None
    status_at: str = ""
    cancel_requested: bool = False
    error_code: str | None = None


class TaskDetail(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One task with what went in and came out; `omitted` names what was too large for the answer."""

    task: TaskRecord
    input: Any = None
    input_ref: ObjectRef | None = None
    metadata: dict[str, Any] | None = None
    output: Any = None
    output_ref: ObjectRef | None = None
    usage: Usage | None = None
    error: Error | None = None
    artifacts: tuple[ArtifactAdded, ...] = ()
    omitted: tuple[str, ...] = ()


class SaidMessage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was said in a conversation: `role` is `user` (input, message) or `assistant` (output).

    `state` is that of its task; a large `content` stands at `content_ref`.
    """

    task: str
    role: str
    at: str
    sequence: int
    agent: str = ""
    owner: str = ""
    state: str = ""
    content: Any = None
    content_ref: ObjectRef | None = None


class ContextRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One conversation of one owner: how many tasks it has, how many of them have not ended.

    `first` is the sequence of its oldest commit, `status_sequence` that of its newest status, at `status_at`.
    """

    context_id: str
    owner: str
    tasks: int
    open: int = 0
    first: int = 0
    status_sequence: int = 0
    status_at: str = ""


class GetRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One task, by its id or by the sequence of its submit; with an `owner` only one of theirs."""

    v: int
    id: str = ""
    submit: int = 0
    owner: str | None = None
    sequence: int = 0
    wait_s: float = DEFAULT_WAIT_S


class TasksRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tasks that fit everything given; `since` is the earliest `status_at` (RFC 3339)."""

    v: int
    state: str | None = None
    agent: str | None = None
    context_id: str | None = None
    owner: str | None = None
    since: str | None = None
    limit: int = DEFAULT_LIMIT
    page_token: str | None = None
    sequence: int = 0
    wait_s: float = DEFAULT_WAIT_S


class HistoryRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was said in a conversation; a task without a context is its own, under its id."""

    v: int
    context_id: str
    owner: str | None = None
    limit: int = DEFAULT_LIMIT
    page_token: str | None = None
    sequence: int = 0
    wait_s: float = DEFAULT_WAIT_S


class RebuildRequest(Struct, frozen=True, kw_only=True):
    """Build the view anew from the first commit on; goes to every store."""

    v: int


class ContextsRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The conversations that there are, of one owner or of all."""

    v: int
    owner: str | None = None
    limit: int = DEFAULT_LIMIT
    page_token: str | None = None
    sequence: int = 0
    wait_s: float = DEFAULT_WAIT_S


class DeleteRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Purge the logs of a conversation whose tasks have all ended; every store that writes does so."""

    v: int
    context_id: str
    owner: str | None = None
    sequence: int = 0
    wait_s: float = DEFAULT_WAIT_S


class GetAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The task, or None where there is none."""

    v: int
    sequence: int = 0
    detail: TaskDetail | None = None
    error: Error | None = None


class TasksAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One page of tasks, the newest status first; while `next_page_token` is set there may be more, even after none."""

    v: int
    sequence: int = 0
    tasks: tuple[TaskRecord, ...] = ()
    next_page_token: str | None = None
    error: Error | None = None


class HistoryAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One page of what was said, the oldest task first; there is more if `next_page_token` is set."""

    v: int
    sequence: int = 0
    messages: tuple[SaidMessage, ...] = ()
    next_page_token: str | None = None
    error: Error | None = None


class ContextsAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One page of conversations, the newest status first; there are more if `next_page_token` is set."""

    v: int
    sequence: int = 0
    contexts: tuple[ContextRecord, ...] = ()
    next_page_token: str | None = None
    error: Error | None = None


class DeleteAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one store did: how many logs it purged, or why none; `state` is `started` when it begins."""

    v: int
    store: str
    state: str = DONE
    tasks: int = 0
    error: Error | None = None


class RebuildAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far one store is: `state` is `started`, `done` or `failed`."""

    v: int
    store: str
    state: str
    sequence: int = 0
    tasks: int = 0
    error: Error | None = None
