"""What the model adds to the project's own: programs for a handler to run, and operations that a flow does not see.

The operations stand for leases, ticks, drains, tails, tools, and for a handler that never returns.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from mesh.log.head import View
from mesh.log.ops import Verdict
from mesh.subjects import Subjects
from schemas.command import Call
from schemas.envelope import Head
from schemas.error import Error

NAMES = Subjects()
INBOX = "_INBOX_executor.told"
AT = "2026-01-01T00:00:00.000000Z"
MINE = "mine"
FRESH, TOLD, DRAIN, HELD, DONE = "fresh", "told", "drain", "held", "done"
STOPPED = Error(code="tool_failed", message="stopped")
FAILED = Error(code="tool_failed", message="failed")
LEFT = Error(code="tool_outcome_unknown", message="cut off")
Process = Generator[Any, Any, Any]


@dataclass(frozen=True)
class Do:
    """A step; `once` must not be repeated; one to `undo` is undone by its handler, however its task ends here."""

    key: str
    once: bool = False
    undo: bool = False


@dataclass(frozen=True)
class Wait:
    """Suspend until so many messages have come."""

    messages: int


@dataclass(frozen=True)
class Change:
    """A handler of these app versions asks for other steps than the log holds."""

    versions: tuple[str, ...] = ("1",)


@dataclass(frozen=True)
class Hang:
    """Never return."""


@dataclass(frozen=True)
class Poison:
    """Kill the worker."""


@dataclass(frozen=True)
class Tool:
    """A tool call; `once` must not be repeated, `tries` are attempts by policy, it may hang or kill its runner.

    One that `tells` says once how far it has come.
    """

    key: str
    once: bool = False
    tries: int = 1
    tells: bool = False
    hangs: bool = False
    kills: bool = False


@dataclass(frozen=True)
class Tools:
    """Tool calls side by side, their intents in one commit, and maybe a step of the handler's own beside them."""

    calls: tuple[Tool, ...]
    beside: Do | None = None


Part = Do | Wait | Change | Hang | Poison | Tools
Program = tuple[Part, ...]


@dataclass(frozen=True)
class At:
    """Where a delivery stands in the work stream, and how often it has been handed out."""

    seq: int
    delivered: int


class Stamp:
    """A writer; the world gives each process its own commits back as `mine`, and all others as nobody's."""

    def __init__(self, by: str) -> None:
        self.by = by

    def stamp(self) -> tuple[str, str]:
        return MINE, AT


class Look(Struct, frozen=True):
    """Rule E2 for one step, by an owner that has seen the log up to `seen`. → FRESH | TOLD | DRAIN | Entry"""

    task: str
    seen: int
    step: str


class Tick(Struct, frozen=True):
    """Wait until the log is longer than `seen`. → Entry"""

    task: str
    seen: int


class Hangs(Struct, frozen=True):
    """A handler that never returns; its worker notices when claim `claim` holds no more. → Entry"""

    task: str
    claim: int


class Dies(Struct, frozen=True):
    """An effect that kills its worker each time. → never"""

    task: str


class InQueue(Struct, frozen=True):
    """Whether the command that this head asks for is in the work queue. → bool"""

    task: str
    head: Head


class Verb(Struct, frozen=True):
    """A verb on the delivery before the flow has ended; only broken flows do that. → None"""

    verdict: Verdict


class Cut(Struct, frozen=True):
    """A router hears that the connection of a worker is closed which held this delivery of a command."""

    seq: int
    delivery: int
    call: Call | None = None

    @property
    def kind(self) -> str:
        return f"#{self.seq} in delivery {self.delivery}"


class GiveBack(Struct, frozen=True):
    """Negatively acknowledge this delivery of a command in the place of its holder. → None"""

    seq: int
    delivery: int


class Follow(Struct, frozen=True):
    """Follow the log from `after` on, before the first call is published. → tuple[Entry, ...]"""

    task: str
    after: int


class Idle(Struct, frozen=True):
    """Wait for others: until news come after `after`, or for a while. → tuple[Entry, ...] | Entry | HELD | TOLD | DRAIN

    A single entry was told by a runner. `claim`, `view`, `called` and `heard` (what was told before) are all else that
    the owner's further way depends on.
    """

    task: str
    after: int
    claim: int
    view: View
    called: frozenset[str]
    heard: frozenset[int]


class Undo(Struct, frozen=True):
    """A handler undoes outside of the mesh what this step has begun. → None"""

    task: str
    step: str


class Sure(Struct, frozen=True):
    """Wait until the log holds what a broadcast announced. → None"""

    task: str


class Lapse(Struct, frozen=True):
    """Whether a runner still has its delivery for all it knows: 0, or how long the log is by now. → int"""

    task: str


class Effect(Struct, frozen=True):
    """A runner makes its call, having seen the log up to `seen`. → DONE | FAILED | STOPPED | LEFT"""

    tool: Tool
    view: View
    attempt: int
    seen: int
