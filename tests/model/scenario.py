"""What one exploration is about: the clients' messages, the handler, who works, and which faults may happen."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from schemas import command, signal
from schemas.command import DeadLetter
from schemas.envelope import VERSION
from schemas.signal import TaskSignal
from schemas.task import TaskAccepted
from services.router import rules
from tests.model.parts import AT, NAMES, Program
from tests.model.processes import Flows
from tests.model.tables import Sent

DEEP = bool(os.environ.get("MESH_MODEL_DEEP"))
TASK = "T"


@dataclass(frozen=True)
class Faults:
    """How often each fault may happen in one run.

    `crashes`: a process dies at any point. `pauses`: a delivery is handed out again while its holder lives and goes on
    later. `lost_acks`: an append or a publish is stored, or an append is not, and its writer is not told. `drains`: an
    executor is asked to leave. `purges`: all run commands vanish from the queue. `blanks`: a log is not there for once.
    `lapses`: a delivery is handed out again while its holder lives and answers (a slow link, a broker that paused).
    `cuts`: the connection of a worker is reported closed while it lives, and it does not come back in time.
    """

    crashes: int = 0
    pauses: int = 0
    lost_acks: int = 0
    drains: int = 0
    purges: int = 0
    blanks: int = 0
    lapses: int = 0
    cuts: int = 0


@dataclass(frozen=True)
class Scenario:
    """One exploration.

    `helping` are the timers a fault-free world may count on to come to a good end: a deadline or a grace timer would
    hide a lost wake-up. `deploys` lets app version 2 appear, with one executor of its own. With `events` the broker
    reports closed connections (K1). With an `inbox` runners tell executors of their results (ADR 0007).
    """

    client: tuple[Sent, ...]
    program: Program = ()
    faults: Faults = Faults()
    flows: Flows = field(default_factory=Flows)
    routers: int = 2
    executors: int = 2
    runners: int = 2
    max_attempts: int = 9
    max_starts: int = 3
    waits: int = 0
    helping: frozenset[str] = frozenset({command.RESUME})
    deploys: bool = False
    able: bool = True
    inbox: bool = False
    reconciler: bool = False
    events: bool = False
    fenced: bool = True


def submit(body: str = "a", *, deadline: bool = False, parent: str | None = None, task: str = TASK) -> Sent:
    """A client's submit; two with another `body` are two bodies under one id."""
    opening = TaskAccepted(
        agent="demo", pool="demo", digest=body, sequence=1, at=AT, deadline_s=1.0 if deadline else None, parent=parent
    )
    letter = DeadLetter(
        v=VERSION, task=task, error=rules.duplicate_error(task), subject=NAMES.submit("demo"), at=AT, body=body
    )
    return Sent("submit", task, rules.Order(task=task, opening=opening, letter=letter, sequence=1))


def steer(id: str, task: str = TASK) -> Sent:
    """A message to a task."""
    return Sent("signal", task, TaskSignal(kind=signal.STEER, id=id))


def cancel(id: str = "c", task: str = TASK) -> Sent:
    """A request to stop."""
    return Sent("signal", task, TaskSignal(kind=signal.CANCEL, id=id))
