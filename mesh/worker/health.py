"""Whether a service does what it is there for, told from numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

HealthState = Literal["ok", "busy", "draining", "paused", "stuck"]
STALE_S: Final = 10.0


class Health(Struct, frozen=True):
    """`busy`, `draining` and `paused` pass by themselves; `stuck` wants a person. `reason` is for that person."""

    state: HealthState = "ok"
    reason: str = ""


class Queue(Struct, frozen=True, kw_only=True):
    """One queue of a service, as far as its health depends on it."""

    name: str
    in_flight: int
    slots: int
    pending: int
    idle_s: float
    paused: bool = False


def judge(queues: Sequence[Queue], *, draining: bool, blocked: str = "", beside: Sequence[Health] = ()) -> Health:
    """The worst that is to be said, `beside` included; `blocked` names the code that blocks the event loop."""
    if blocked:
        return Health("stuck", blocked)
    if draining:
        return Health("draining", "it takes nothing new and ends what it holds")
    found = [*beside, *(_of_queue(queue) for queue in queues)]
    order: Sequence[HealthState] = ("stuck", "paused", "busy", "ok")
    return min(found, key=lambda health: order.index(health.state), default=Health())


def _of_queue(queue: Queue) -> Health:
    if queue.paused:
        return Health("paused", "the broker's store is full, so it takes nothing new")
    if not queue.pending:
        return Health()
    if queue.in_flight >= queue.slots:
        return Health("busy", f"{queue.name}: all {queue.slots} slots are taken and {queue.pending} deliveries wait")
    if queue.idle_s > STALE_S:
        return Health("stuck", f"{queue.name}: {queue.pending} deliveries wait, and none came for {queue.idle_s:.0f} s")
    return Health()
