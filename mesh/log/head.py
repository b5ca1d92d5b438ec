"""The fold of a task's log, and the commit that goes on from it.

Pure: no I/O, no clock. Every commit carries the head it leads to, so the newest one is enough to decide; the fold is
what writers compute that head with, and what `mesh.log.check` compares it against.
"""

from __future__ import annotations

from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from mesh.errors import NewerLog
from schemas import step, task
from schemas.envelope import VERSION, Commit, Event, Head

EXECUTOR: Final = "executor"
ROUTER: Final = "router"
TOOL_RUNNER: Final = "tool-runner"

WAKES: Final = frozenset({task.CANCEL_REQUESTED, task.MESSAGE_RECEIVED, step.COMPLETED, step.FAILED})

# What an owner may write in every attempt anew; all else a replay skips, so it shows that the task came further.
NO_PROGRESS: Final = frozenset({task.STARTED, task.RELEASED, step.PROGRESS})


class Writer(Protocol):
    """Who appends: role and name, and the stamps of one commit."""

    @property
    def by(self) -> str: ...

    def stamp(self) -> tuple[str, str]:
        """A nonce nobody else uses, and the time (RFC 3339, UTC, microseconds)."""
        ...


class View(Struct, frozen=True):
    """How much of a log its reader has seen: up to `seq`, which is commit `n`."""

    task: str
    seq: int = 0
    n: int = -1
    first: int = 0
    head: Head = Head()
    v: int = VERSION

    @property
    def exists(self) -> bool:
        return self.n >= 0

    @property
    def never_started(self) -> bool:
        return self.head.phase == "runnable" and self.head.wake == 0


class Entry(Struct, frozen=True, gc=False):
    """One commit and the stream sequence it stands at."""

    seq: int
    commit: Commit


def view_of(entry: Entry) -> View:
    """What a reader knows whose newest commit is this one."""
    c = entry.commit
    return View(c.task, entry.seq, c.n, c.first or entry.seq, c.head, c.v)


def next_commit(view: View, writer: Writer, events: tuple[Event, ...], trace: str = "") -> Commit:
    """The commit that goes on from `view`; raises NewerLog for a log this version must not continue."""
    if view.v > VERSION:
        raise NewerLog(
            f"the log of task '{view.task}' is of version {view.v}, this process writes version {VERSION}",
            hint="a newer worker takes it; finish the upgrade of this one",
        )
    n = view.n + 1
    nonce, at = writer.stamp()
    head = fold(view.head, n, writer.by, events)
    return Commit(
        v=VERSION, task=view.task, n=n, nonce=nonce, by=writer.by, at=at, head=head, events=events,
        first=view.first, trace=trace,
    )  # fmt: skip


def fold(head: Head, n: int, by: str, events: tuple[Event, ...]) -> Head:
    """The head after commit `n`; raises ValueError if anything follows the end."""
    if head.phase == "ended":
        raise ValueError("nothing follows the terminal event")
    if is_progress(by, events):
        head = replace(head, starts=0, cut_offs=0)
    for event in events:
        head = _apply(head, n, event)
    return head


def is_progress(by: str, events: tuple[Event, ...]) -> bool:
    """Whether the owner has come further with these events."""
    return by.startswith(EXECUTOR) and any(one.type not in NO_PROGRESS for one in events)


def _apply(head: Head, n: int, event: Event) -> Head:
    kind = event.type
    if kind in task.TERMINAL:
        return replace(head, phase="ended", owner="")
    if kind in WAKES:
        if kind == task.CANCEL_REQUESTED and not head.cancel:
            head = replace(head, cancel=True, cancel_id=event.data.id)
        return replace(head, phase="runnable", wake=n) if head.phase == "suspended" else head
    if kind == task.ACCEPTED:
        tell, deadline = event.data.parent is not None, event.data.deadline_s is not None
        return replace(head, phase="runnable", wake=n, tell=tell, deadline=deadline)
    if kind == task.STARTED:
        data = event.data
        return replace(
            head, phase="running", wake=data.wake, cover=data.cover, delivery=data.delivery, claim=n, owner=data.owner,
            starts=head.starts + 1,
        )  # fmt: skip
    if kind == task.SUSPENDED:
        return replace(head, phase="suspended", cover=0, delivery=0, owner="", starts=0, not_apps=event.data.not_apps)
    if kind == task.RELEASED:
        cut_offs = head.cut_offs + (event.data.reason == task.CUT_OFF)
        return replace(head, claim=n, owner="", starts=max(0, head.starts - 1), cut_offs=cut_offs)
    if kind == task.RESUMED:
        return replace(head, phase="runnable", wake=n, cover=0, delivery=0, owner="")
    return head
