"""What goes in and out of the bus: plain values that know nothing of a client library."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Conflict(Struct, frozen=True):
    """A fenced append was refused: its subject has moved on.

    `last` is the newest sequence of the subject as the broker named it in error 10071.
    """

    last: int


class StoredMessage(Struct, frozen=True, gc=False):
    """One message of a stream.

    `at` is the broker's time stamp (RFC 3339), or empty where the way it was read does not carry one.
    """

    seq: int
    subject: str
    data: bytes
    at: str = ""


class ConsumerState(Struct, frozen=True):
    """What waits for a consumer, and what those who pull from it hold."""

    pending: int = 0
    unacknowledged: int = 0
    redelivered: int = 0


class ReplicaState(Struct, frozen=True):
    """One of the copies of a stream that its leader feeds, and how long the leader has not heard of it."""

    server: str
    current: bool
    silent_s: float
    lag: int


class StreamFacts(Struct, frozen=True):
    """When a stream was created, as the broker prints it; the newest sequence that it gave; its number of replicas."""

    created: str
    last_seq: int
    replicas: int


class StreamState(Struct, frozen=True, kw_only=True):
    """How a stream stands; `max_bytes` -1 is no limit, `replicas` are those beside the leader."""

    bytes: int
    max_bytes: int
    subjects: int
    led: bool
    replicas: tuple[ReplicaState, ...]


class Difference(Struct, frozen=True):
    """Where a stream or consumer is not as it should be; without a `field` all of it is missing.

    One that is not `fixable` cannot be changed without loss. Both sides are told as a person reads them.
    """

    what: str
    field: str = ""
    there: str = ""
    wanted: str = ""
    fixable: bool = True

    @property
    def missing(self) -> bool:
        """Whether there is nothing to compare."""
        return not self.field

    def __str__(self) -> str:
        if self.missing:
            return f"{self.what} is missing"
        return f"{self.what}: {self.field} is {self.there}, the mesh needs {self.wanted}"


class LiveMessage(Struct):
    """One message that arrived while somebody listened.

    `seq` and `last_seq` are the stream sequence and the one before it on the same subject, which a republishing
    stream adds; 0 where they are absent.
    """

    subject: str
    data: bytes
    reply: str = ""
    seq: int = 0
    last_seq: int = 0


class Observer(Protocol):
    """A seam for crash tests: told of every write, before and after.

    `kind` is `append`, `publish`, `send`, `ack` or `upload` (a chunk of an object, or what makes it visible), and of an
    owner also `perform`: it is about to make the effect of a step; the claim's `n` and the step's key follow the
    subject of the task's log, and there is no `after`. `after` comes with the broker's answer for what waits for one,
    and once the bytes are with the socket for the others. It is not called for a write that failed.
    """

    def before(self, kind: str, subject: str) -> None:
        """Nothing of this write has left the process."""

    def after(self, kind: str, subject: str) -> None:
        """The write is done, and its caller does not know it yet."""


class Subscription(Protocol):
    """Something listened to until it is closed."""

    async def aclose(self) -> None:
        """Stop listening; safe to repeat."""
