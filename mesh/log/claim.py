"""From a run command to ownership: rules R1 to R5, P2 and Q1."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from msgspec import Struct

from mesh.log.append import append, end_task, tell_end, wake_message
from mesh.log.exhausted import exhausted, exhausted_letter
from mesh.log.head import Entry, View, Writer, view_of
from mesh.log.ops import Ack, Drop, Flow, Holds, Nak, Publish, Read, Verdict
from mesh.subjects import Subjects
from schemas.command import Run
from schemas.envelope import Commit, Head, event
from schemas.task import TaskFailed, TaskStarted

NO_LOG_DELAY_S: Final = 1.0
MAX_DECLINED: Final = 25


class Decision(Enum):
    """What a run command comes to, given the head of its task's log."""

    CLAIM = "claim"
    EXHAUSTED = "exhausted"
    ENDED = "ended"
    SPENT = "spent"
    SURPLUS = "surplus"
    LATE = "late"
    STALE = "stale"


_TAKES_OVER: Final = frozenset({Decision.CLAIM, Decision.EXHAUSTED})


class Claimant(Struct, frozen=True, kw_only=True):
    """Who claims, and how many starts without progress it allows.

    `definitions` are the digests of its app's model agents, by name.
    """

    worker: str
    app_version: str = ""
    definitions: Mapping[str, str] = {}
    max_attempts: int = 3


class Claimed(Struct, frozen=True):
    """The task is this worker's; `commit` is the claim as it stands in the log."""

    view: View
    commit: Commit

    @property
    def claim(self) -> int:
        """What the head of a log names as long as the task is this worker's."""
        return self.commit.n


def decide(head: Head, wake: int, seq: int, delivered: int, max_attempts: int) -> Decision:
    """R2 to R4 and P2 as a table; `seq` is the command's own stream sequence, `delivered` counts its deliveries.

    A worker that wakes up late with a delivery older than the owner's does not take over: the owner's lease is good.
    """
    if head.phase == "ended":
        return Decision.ENDED
    if head.phase == "suspended" or head.wake > wake:
        return Decision.SPENT
    if head.phase == "none" or head.wake < wake:
        return Decision.STALE
    if head.phase == "running" and head.cover != seq:
        return Decision.SURPLUS
    if head.phase == "running" and delivered < head.delivery:
        return Decision.LATE
    return Decision.EXHAUSTED if head.starts >= max_attempts else Decision.CLAIM


def claim(
    names: Subjects, writer: Writer, who: Claimant, command: Run, seq: int, delivered: int
) -> Flow[Claimed | Verdict]:
    """Claims the task for this worker, or says what becomes of the delivery.

    The first append goes by what the command names; a decision that ends in no append is taken on what the leader
    shows (L7). An owner that answers keeps its task: its ticks keep the delivery too, so this one needs no verb.
    """
    view, fresh = _named(command), False
    while True:
        decision = decide(view.head, command.wake, seq, delivered, who.max_attempts)
        if decision in _TAKES_OVER and view.head.owner and (yield _asks(view.head)):
            return Drop()
        if decision is Decision.CLAIM:
            started = TaskStarted(
                wake=command.wake, cover=seq, delivery=delivered, owner=who.worker, attempt=view.head.starts + 1,
                app_version=who.app_version, definition=who.definitions.get(command.agent, ""),
            )  # fmt: skip
            result = yield from append(view, writer, (event(started),))
            view, fresh = result.view, False
            if result.stored:
                mine = view.head.phase == "running" and view.head.claim == result.commit.n
                return Claimed(view, result.commit) if mine else Drop()
        elif decision is Decision.LATE:
            return Drop()
        elif decision is Decision.EXHAUSTED and fresh:
            result = yield from end_task(names, view, writer, TaskFailed(error=exhausted(view.head.starts)))
            view, fresh = result.view, False
            if result.stored:
                yield from _say_end(names, view)
                return Ack()
        elif fresh:
            return (yield from _no_claim(names, view, decision))
        else:
            entry: Entry | None = yield Read(command.task)
            view, fresh = (view_of(entry) if entry else View(command.task)), True


def _asks(head: Head) -> Holds:
    return Holds(head.owner, head.cover, head.delivery)


def _named(command: Run) -> View:
    """What the command names, where that is commit 0 of a task nobody held; otherwise the log is read first."""
    if command.n == 0 and 0 < command.first == command.last and command.head.phase == "runnable":
        return View(command.task, command.last, command.n, command.first, command.head, command.v)
    return View(command.task)


def decline(names: Subjects, command: Run, seq: int, delivered: int, delay_s: float) -> Flow[Verdict]:
    """A worker that must not claim keeps the command for others, unless nothing is left to do.

    A command that covers nobody is sent anew now and then: very many deliveries are a sign that workers die of it (P4).
    """
    entry: Entry | None = yield Read(command.task)
    view = view_of(entry) if entry else View(command.task)
    decision = decide(view.head, command.wake, seq, delivered, max_attempts=1)
    if decision in (Decision.ENDED, Decision.SPENT, Decision.SURPLUS):
        return (yield from _no_claim(names, view, decision))
    if view.head.phase == "runnable" and delivered >= MAX_DECLINED:
        yield Publish(((yield from wake_message(names, view)),))
        return Ack()
    return Nak(delay_s)


def _no_claim(names: Subjects, view: View, decision: Decision) -> Flow[Verdict]:
    """Nothing to run: what a crash may have left unsaid is said again, then the command is removed.

    A command that is ahead of its own log (no log, or an older wake) is kept: the log may come back.
    """
    if decision is Decision.STALE:
        return Nak(NO_LOG_DELAY_S)
    if decision is Decision.ENDED:
        yield from _say_end(names, view)
    return Ack()


def _say_end(names: Subjects, view: View) -> Flow[None]:
    entry: Entry | None = yield Read(view.task)
    letter = exhausted_letter(names, entry) if entry else None
    if letter:
        yield Publish((letter,))
    yield from tell_end(names, view)
