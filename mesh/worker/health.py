"""Whether a service does what it is there for, told from numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

HealthState = Literal["ok", "busy", "draining", "paused", "unknown", "stuck"]
STALE_S: Final = 10.0


class Health(Struct, frozen=True):
    """`stuck` wants a person, the others pass by themselves; `reason` is for that person."""

    state: HealthState = "ok"
    reason: str = ""


class Queue(Struct, frozen=True, kw_only=True):
    """One queue of a service, as far as its health depends on it.

    A delivery that is held for more than `longest_s` hangs; `oldest_s` is how long the oldest one is held. Where the
    broker does not tell what waits, `unread` is why, and `unread_s` since when.
    """

    name: str
    in_flight: int
    slots: int
    pending: int
    idle_s: float
    oldest_s: float = 0.0
    longest_s: float = math.inf
    paused: bool = False
    unread: str = ""
    unread_s: float = 0.0


def judge(queues: Sequence[Queue], *, draining: bool, blocked: str = "", beside: Sequence[Health] = ()) -> Health:
    """The worst that is to be said, `beside` included; `blocked` names the code that blocks the event loop."""
    if blocked:
        return Health("stuck", blocked)
    if draining:
        return Health("draining", "it takes nothing new and ends what it holds")
    found = [*beside, *(_of_queue(queue) for queue in queues)]
    order: Sequence[HealthState] = ("stuck", "unknown", "paused", "busy", "ok")
    return min(found, key=lambda health: order.index(health.state), default=Health())


def _of_queue(queue: Queue) -> Health:
    name, taken, held = queue.name, f"{queue.in_flight} of {queue.slots} slots are taken", f"{queue.oldest_s:.0f} s"
    if queue.paused:
        return Health("paused", "the broker's store is full, so it takes nothing new")
    if queue.oldest_s > queue.longest_s:
        return Health("stuck", f"{name}: {taken}, the oldest for {held}; each should take a moment")
    if queue.unread:
        # A leader that is being elected does not answer either.
        state: HealthState = "stuck" if queue.unread_s > STALE_S else "unknown"
        return Health(state, f"{name}: what waits is not known: {queue.unread}")
    if not queue.pending:
        return Health()
    if queue.in_flight >= queue.slots:
        return Health("busy", f"{name}: {taken}, the oldest for {held}, and {queue.pending} deliveries wait")
    if queue.idle_s > STALE_S:
        return Health("stuck", f"{name}: {queue.pending} deliveries wait, and none came for {queue.idle_s:.0f} s")
    return Health()
