"""Events of a task as a whole."""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct

from schemas.error import Error
from schemas.object import ObjectRef

State = Literal[
    "submitted", "working", "input-required", "auth-required", "completed", "failed", "canceled", "rejected"
]
Phase = Literal["none", "runnable", "running", "suspended", "ended"]

ACCEPTED: Final = "task.accepted"
STARTED: Final = "task.started"
SUSPENDED: Final = "task.suspended"
RESUMED: Final = "task.resumed"
RELEASED: Final = "task.released"
COMPLETED: Final = "task.completed"
FAILED: Final = "task.failed"
CANCELED: Final = "task.canceled"
REJECTED: Final = "task.rejected"
CANCEL_REQUESTED: Final = "cancel.requested"
MESSAGE_RECEIVED: Final = "message.received"
CONTEXT_DECIDED: Final = "context.decided"
FORKED_FROM: Final = "forked.from"

CUT_OFF: Final = "cut_off"
TERMINAL: Final = frozenset({COMPLETED, FAILED, CANCELED, REJECTED})


class Money(Struct, frozen=True):
    """An amount as a decimal string; unknown cost is null, never zero."""

    amount: str
    currency: str = "USD"


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What model calls used, summed; counts are tokens but for `requests`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    requests: int = 0
    cost: Money | None = None


class TaskAccepted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The router admitted a submit; always the first event of its log.

    `digest` is that of the agent and all keys of the submit but `trace`; `sequence` is the submit's own in the work
    stream; `at` is the broker's time stamp of the submit, from which `deadline_s` counts. A large input stands at
    `input_ref`.
    """

    agent: str
    pool: str
    digest: str
    sequence: int
    at: str
    input: Any = None
    context_id: str | None = None
    owner: str = "local/anonymous"
    deadline_s: float | None = None
    metadata: dict[str, Any] | None = None
    unknown: dict[str, Any] | None = None
    parent: str | None = None
    ancestors: tuple[str, ...] = ()
    input_ref: ObjectRef | None = None


class TaskStarted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An executor claimed the task: this wake, covered by this command in this delivery of it."""

    wake: int
    cover: int
    owner: str
    attempt: int
    delivery: int = 0
    app_version: str = ""
    definition: str = ""
    agent: str = ""


class TaskSuspended(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The handler waits and holds no worker; `error` says why where it is a fault."""

    reason: str
    error: Error | None = None
    not_apps: tuple[str, ...] = ()
    resume_after_s: float | None = None


class TaskResumed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The router made the task runnable again."""

    reason: str = ""


class TaskReleased(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The owner left in order (drain), or its connection was closed (`cut_off`); another one takes over."""

    reason: str = "drain"


class TaskCompleted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The handler returned `output`; a large one stands at `output_ref`."""

    output: Any = None
    usage: Usage | None = None
    output_ref: ObjectRef | None = None


class TaskFailed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The task ended with an error; `usage` is what its handler had used, where that is known."""

    error: Error
    usage: Usage | None = None


class TaskCanceled(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The task ended because somebody asked for it; first in a log, a tombstone."""

    reason: str = ""
    usage: Usage | None = None
    parent: str | None = None
    context_id: str | None = None


class TaskRejected(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The submit could not become a task; always the only event of its log."""

    error: Error
    digest: str
    sequence: int
    agent: str = ""
    owner: str = "local/anonymous"


class CancelRequested(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody asked the task to stop; `id` is that of the signal."""

    id: str
    reason: str = ""


class MessageReceived(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message reached the running task; `id` is that of the signal."""

    id: str
    body: Any = None


class ContextDecided(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the router decided about a busy conversation."""

    decision: str
    other: str | None = None


class ForkedFrom(Struct, frozen=True, kw_only=True):
    """This log continues another one from that sequence."""

    task: str
    sequence: int


EVENTS: Final[dict[str, type[Struct]]] = {
    ACCEPTED: TaskAccepted,
    STARTED: TaskStarted,
    SUSPENDED: TaskSuspended,
    RESUMED: TaskResumed,
    RELEASED: TaskReleased,
    COMPLETED: TaskCompleted,
    FAILED: TaskFailed,
    CANCELED: TaskCanceled,
    REJECTED: TaskRejected,
    CANCEL_REQUESTED: CancelRequested,
    MESSAGE_RECEIVED: MessageReceived,
    CONTEXT_DECIDED: ContextDecided,
    FORKED_FROM: ForkedFrom,
}
