"""The streams, buckets and consumers of a mesh, as data.

Only what the protocol needs is stated, and only that is compared with the broker: subjects, retention, storage kind,
direct get, republish, and the duplicate window and the number of replicas as minima. Sizes and placement are an
operator's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mesh.subjects import Subjects


class Retention(StrEnum):
    """How a stream keeps its messages, in the broker's spelling."""

    LIMITS = "limits"
    WORK_QUEUE = "workqueue"


class Storage(StrEnum):
    """Where a stream keeps its messages, in the broker's spelling."""

    FILE = "file"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One stream; durations in seconds, sizes in bytes, -1 is unlimited."""

    name: str
    subjects: tuple[str, ...]
    retention: Retention = Retention.LIMITS
    storage: Storage = Storage.FILE
    allow_direct: bool = True
    deny_delete: bool = False
    no_ack: bool = False
    discard_new: bool = False
    schedules: bool = False
    atomic: bool = False
    republish: tuple[str, str] | None = None
    duplicate_window_s: float = 120.0
    max_age_s: float = 0.0
    max_bytes: int = -1
    replicas: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One key-value bucket; `ttl_s` 0 keeps entries for ever."""

    name: str
    ttl_s: float = 0.0
    replicas: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectBucket:
    """One object bucket, laid out as the NATS object store."""

    name: str
    replicas: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """One durable pull consumer, shared by every replica of its service."""

    stream: str
    name: str
    filters: tuple[str, ...]
    ack_wait_s: float = 3.0
    max_ack_pending: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Definitions:
    """Everything a mesh needs on its broker before the first task."""

    streams: tuple[Stream, ...]
    buckets: tuple[Bucket, ...]
    consumers: tuple[Consumer, ...]
    objects: tuple[ObjectBucket, ...] = ()

    @property
    def in_memory(self) -> Definitions:
        """Those streams alone that a broker forgets when it ends."""
        streams = tuple(stream for stream in self.streams if stream.storage is Storage.MEMORY)
        return Definitions(streams=streams, buckets=(), consumers=())


def definitions(names: Subjects, *, ack_wait_s: float = 3.0, replicas: int = 1) -> Definitions:
    """What `mesh dev`, `mesh service` and `mesh doctor --apply` create."""
    p = names.prefix
    return Definitions(
        streams=_streams(names, replicas),
        buckets=(
            Bucket(name=names.agents, replicas=replicas),
            Bucket(name=names.workers, ttl_s=10.0, replicas=replicas),
        ),
        consumers=(
            Consumer(stream=names.work, name="router_submit", filters=(f"{p}.submit.>",), ack_wait_s=ack_wait_s),
            Consumer(
                stream=names.work,
                name="router_signal",
                filters=(f"{p}.signal.>", f"{p}.ended.>", f"{p}.fired.>"),
                ack_wait_s=ack_wait_s,
            ),
        ),
        objects=(
            ObjectBucket(name=names.artifacts, replicas=replicas),
            ObjectBucket(name=names.archives, replicas=replicas),
        ),
    )


def _streams(names: Subjects, replicas: int) -> tuple[Stream, ...]:
    """Where an operator bounds one, it refuses what is new: to drop the oldest would lose tasks without a word.

    The broker does not let a stream with schedules do so (2.15.1); the doctor says it if that one is bounded.
    """
    p = names.prefix
    work = tuple(f"{p}.{kind}.>" for kind in ("submit", "signal", "ended", "later", "fired"))
    derived = tuple(f"{p}.{kind}.>" for kind in ("run", "call"))
    return (
        Stream(name=names.work, subjects=work, retention=Retention.WORK_QUEUE, schedules=True, replicas=replicas),
        Stream(name=names.runs, subjects=derived, retention=Retention.WORK_QUEUE, discard_new=True, replicas=replicas),
        Stream(
            name=names.tasks,
            subjects=(f"{p}.task.>", f"{p}.context.>", f"{p}.purged"),
            deny_delete=True,
            discard_new=True,
            atomic=True,
            republish=(f"{p}.task.>", f"{p}.log.>"),
            replicas=replicas,
        ),
        Stream(
            name=names.deltas,
            subjects=(f"{p}.delta.>",),
            storage=Storage.MEMORY,
            no_ack=True,
            duplicate_window_s=1.0,
            max_age_s=600.0,
            max_bytes=128 * 1024 * 1024,
            replicas=replicas,
        ),
        Stream(name=names.dead_letters, subjects=(f"{p}.dead.>",), discard_new=True, replicas=replicas),
    )


def run_consumer(names: Subjects, pool: str, *, ack_wait_s: float = 3.0) -> Consumer:
    """The consumer that the executors of one pool share."""
    return Consumer(
        stream=names.runs, name=f"run_{pool}", filters=(f"{names.prefix}.run.{pool}",), ack_wait_s=ack_wait_s
    )


def call_consumer(names: Subjects, pool: str, *, ack_wait_s: float = 3.0) -> Consumer:
    """The consumer that the tool runners of one pool share."""
    return Consumer(
        stream=names.runs, name=f"call_{pool}", filters=(f"{names.prefix}.call.{pool}",), ack_wait_s=ack_wait_s
    )
