"""What a flow asks of the world, and what a delivery comes to.

A *flow* is a generator that holds a piece of the log protocol: it yields one of these operations, is sent the answer,
and returns its result. The same flow is driven by `mesh.log.driver` over a real broker and by the explicit-state
exploration in the tests over every interleaving; so it has no I/O, no clock and no randomness of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from enum import Enum
from typing import Any, TypeVar

from msgspec import Struct

from mesh.log.head import Entry
from schemas.envelope import Commit, Event
from schemas.signal import Broadcast

T = TypeVar("T")


class Stored(Struct, frozen=True):
    """The append stands in the log at this sequence."""

    seq: int


class Conflict(Struct, frozen=True):
    """The append is not in the log; `last` is the newest sequence there."""

    last: int


class Unknown(Enum):
    """Nothing is known about an append: no answer came."""

    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN


class Message(Struct, frozen=True, kw_only=True):
    """A stored publish; with a `target` a timer that fires `body` there.

    It fires at `at` (RFC 3339), or `after_s` from now. `id` makes a repeat of this one publish harmless; it is never
    the only guard.
    """

    subject: str
    body: Struct
    id: str = ""
    target: str = ""
    at: str = ""
    after_s: float = 0.0


class Append(Struct, frozen=True):
    """Append to the commit's log, expecting this last sequence. → Stored | Conflict | Unknown"""

    commit: Commit
    expected: int


class Read(Struct, frozen=True):
    """The newest commit, from the leader. → Entry | None"""

    task: str


class ReadFirst(Struct, frozen=True):
    """Commit 0, which stands at `first`. → Entry | None"""

    task: str
    first: int


class ReadAfter(Struct, frozen=True):
    """Everything after a sequence, up to `last` at the least. → tuple[Entry, ...]

    With a `step` the events of that step and the newest commit are enough.
    """

    task: str
    after: int
    last: int
    step: str = ""


class Publish(Struct, frozen=True):
    """Publish all of these until each is stored. → None"""

    messages: tuple[Message, ...]


class Tell(Struct, frozen=True):
    """Publish once on a core subject without waiting. → None"""

    subject: str
    body: Broadcast | Struct


class Holds(Struct, frozen=True):
    """Ask a worker whether it still works on this delivery of a command; silence is a no. → bool"""

    worker: str
    seq: int
    delivery: int


class Commits(Struct, frozen=True):
    """Append these events as the owner; what is committed stays. → None"""

    events: tuple[Event, ...]


class Lease(Struct, frozen=True):
    """Make sure that the task is still this worker's (rule E2). → None"""


class Calls(Struct, frozen=True):
    """Publish the tool call that was requested under this key, `again` if it may have been before. → None"""

    step: str
    again: bool = False


class Awaits(Struct, frozen=True):
    """Wait until the log holds the end of this step. → StepCompleted | StepFailed"""

    step: str


class Perform(Struct, frozen=True):
    """Perform the effect that the flow is about. → its outcome"""

    step: str
    attempt: int


Op = Append | Read | ReadFirst | ReadAfter | Publish | Tell | Holds | Commits | Lease | Calls | Awaits | Perform
Flow = Generator[Op, Any, T]


class Ack(Struct, frozen=True):
    """The delivery is dealt with: remove it."""


class Nak(Struct, frozen=True):
    """Deliver it again, not before `delay_s`."""

    delay_s: float = 0.0


class Drop(Struct, frozen=True):
    """Send no verb at all: the delivery is somebody else's now."""


Verdict = Ack | Nak | Drop


async def drive(flow: Flow[T], answer: Callable[[Op], Awaitable[Any]]) -> T:
    """Runs a flow to its end with an async answer to each operation."""
    try:
        op = next(flow)
        while True:
            op = flow.send(await answer(op))
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()


__all__ = [
    "UNKNOWN",
    "Ack",
    "Append",
    "Awaits",
    "Calls",
    "Commits",
    "Conflict",
    "Drop",
    "Entry",
    "Flow",
    "Holds",
    "Lease",
    "Message",
    "Nak",
    "Op",
    "Perform",
    "Publish",
    "Read",
    "ReadAfter",
    "ReadFirst",
    "Stored",
    "T",
    "Tell",
    "Unknown",
    "Verdict",
    "drive",
]
