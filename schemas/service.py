"""What a service says of itself: the answers on `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`.

They have the form of the NATS micro protocol, so that `nats micro ls|info|stats` shows a mesh without knowing one.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

PING_TYPE: Final = "io.nats.micro.v1.ping_response"
INFO_TYPE: Final = "io.nats.micro.v1.info_response"
STATS_TYPE: Final = "io.nats.micro.v1.stats_response"


class QueueState(Struct, frozen=True, kw_only=True):
    """How one service stands with one queue.

    `in_flight` of `slots` are at work here; `pending` wait for any replica, `unacknowledged` are held by all of them
    together, -1 where the broker does not say. Times are RFC 3339; `oldest_s` is how long the oldest delivery here has
    been held.
    """

    in_flight: int
    slots: int
    pending: int
    unacknowledged: int
    redelivered: int
    last_progress: str
    oldest_s: float


class EndpointInfo(Struct, frozen=True, kw_only=True):
    """One queue that a service takes its work from."""

    name: str
    subject: str
    queue_group: str
    metadata: dict[str, str] = {}


class EndpointStats(Struct, frozen=True, kw_only=True):
    """What a service has done with one queue since it started; durations in nanoseconds."""

    name: str
    subject: str
    queue_group: str
    num_requests: int
    num_errors: int
    last_error: str
    processing_time: int
    average_processing_time: int
    data: QueueState


class ServicePing(Struct, frozen=True, kw_only=True):
    """That a service is there; `metadata` has its health, and the reason where that is not `ok`."""

    type: str = PING_TYPE
    name: str
    id: str
    version: str
    metadata: dict[str, str]


class ServiceInfo(Struct, frozen=True, kw_only=True):
    """What a service is."""

    type: str = INFO_TYPE
    name: str
    id: str
    version: str
    metadata: dict[str, str]
    description: str
    endpoints: tuple[EndpointInfo, ...]


class ServiceStats(Struct, frozen=True, kw_only=True):
    """What a service does; times are RFC 3339."""

    type: str = STATS_TYPE
    name: str
    id: str
    version: str
    metadata: dict[str, str]
    started: str
    endpoints: tuple[EndpointStats, ...]
