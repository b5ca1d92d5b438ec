"""What must hold in every log, and what an acknowledgement may leave behind.

Written from the architecture's invariants and the events alone, not from the heads: these are among what is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mesh.log.head import EXECUTOR, TOOL_RUNNER, WAKES, Entry, fold
from schemas import error as codes
from schemas import signal, step, task
from schemas.command import Call, Run
from schemas.envelope import Commit, Event, Head
from schemas.signal import TaskSignal
from services.router.rules import MAX_SIGNAL_WAITS, Order
from tests.model.parts import FAILED, LEFT, STOPPED
from tests.model.tables import Sent


def check_log(entries: tuple[Entry, ...], max_attempts: int) -> str | None:
    """What is wrong with a log, if anything."""
    events = [each for entry in entries for each in entry.commit.events]
    return (
        _check_end(entries, events)
        or _check_heads(entries)
        or _check_once(events)
        or _check_claims(entries, max_attempts)
        or _check_starts(events)
        or _check_stopped(events)
    )


def _check_end(entries: tuple[Entry, ...], events: list[Event]) -> str | None:
    ends = [i for i, each in enumerate(events) if each.type in task.TERMINAL]
    if len(ends) > 1:
        return "invariant 1: two terminal events"
    if ends and ends[0] != len(events) - 1:
        return "invariant 1: something follows the terminal event"
    asked = any(each.type == task.CANCEL_REQUESTED for each in events)
    if ends and asked and entries[-1].commit.by.startswith(EXECUTOR) and events[-1].type == task.COMPLETED:
        return "invariant 5: a completion came after the cancel request and won"
    return None


def _check_heads(entries: tuple[Entry, ...]) -> str | None:
    head = Head()
    for n, entry in enumerate(entries):
        commit = entry.commit
        if commit.n != n or commit.first != (entries[0].seq if n else 0):
            return "the numbers of a commit do not fit its place"
        head = fold(head, n, commit.by, commit.events)
        if head != commit.head:
            return f"the head of commit {n} is not the fold of its log: {commit.head} instead of {head}"
    return None


def _check_once(events: list[Event]) -> str | None:
    seen: set[tuple[str, str]] = set()
    for each in events:
        if each.type in (task.CANCEL_REQUESTED, task.MESSAGE_RECEIVED):
            key = ("signal", each.data.id)
        elif each.type in (step.COMPLETED, step.FAILED):
            key = ("result", each.data.step)
        else:
            continue
        if key in seen:
            return f"the {key[0]} '{key[1]}' is in the log twice"
        seen.add(key)
    return None


def _check_starts(events: list[Event]) -> str | None:
    """No call is begun after its result or after a cancel request."""
    over: set[str] = set()
    canceled = False
    for each in events:
        if each.type == step.STARTED and each.data.cover:
            if each.data.step in over:
                return f"invariant 2: tool '{each.data.step}' is begun after its result"
            if canceled:
                return f"X4: tool '{each.data.step}' is begun after a cancel request"
        over |= {each.data.step} if each.type in (step.COMPLETED, step.FAILED) else set()
        canceled = canceled or each.type == task.CANCEL_REQUESTED
    return None


def _check_stopped(events: list[Event]) -> str | None:
    """A call that was stopped for a cancel ends behind the request: before it, the task would go on with that."""
    for each in events:
        if each.type == task.CANCEL_REQUESTED:
            return None
        if each.type == step.FAILED and each.data.error == STOPPED:
            return f"X1: '{each.data.step}' is recorded as stopped before the request that stopped it"
    return None


def _check_claims(entries: tuple[Entry, ...], max_attempts: int) -> str | None:
    """Claims serve the newest wake under one cover, and only the newest claim's owner writes as one."""
    turns = _Turns(max_attempts)
    for n, entry in enumerate(entries):
        for each in entry.commit.events:
            wrong = turns.take(n, entry.commit.by, each)
            if wrong:
                return wrong
    return None


@dataclass
class _Turns:
    """Whose turn it is, event by event."""

    max_attempts: int
    max_cut_offs: int = 1
    phase: str = "none"
    wake: int = 0
    cover: int = 0
    claim: int = -1
    starts: int = 0
    cut_offs: int = 0
    asked: bool = False
    cancel: bool = False

    def take(self, n: int, by: str, each: Event) -> str | None:
        """What is wrong with this event of commit `n`."""
        if each.type == task.STARTED:
            return self._start(n, each.data)
        if by.startswith(EXECUTOR) and not _is_exhausted(each):
            if by != f"{EXECUTOR}/{self.claim}" or self.phase != "running":
                return f"R6: a fenced writer's '{each.type}' is in the log"
            if each.type == step.COMPLETED and self.cancel:
                return f"X1: step '{each.data.step}' is made by an owner that claimed a canceled task"
            self.starts, self.cut_offs = (self.starts - 1, self.cut_offs) if each.type == task.RELEASED else (0, 0)
        elif each.type == task.RELEASED:
            self.starts, self.cut_offs = self.starts - 1, self.cut_offs + 1
            if self.cut_offs > self.max_cut_offs:
                return "K1: a task is handed on more often without progress than it may be"
        self.asked = self.asked or each.type == task.CANCEL_REQUESTED
        if each.type == task.RELEASED:
            self.claim = n
        elif each.type == task.SUSPENDED:
            self.phase = "suspended"
        elif each.type in (task.ACCEPTED, task.RESUMED) or (each.type in WAKES and self.phase == "suspended"):
            self.phase, self.wake = "runnable", n
        return None

    def _start(self, n: int, started: task.TaskStarted) -> str | None:
        if started.wake != self.wake:
            return "a claim serves another wake than the newest"
        if self.phase == "running" and started.cover != self.cover:
            return "R4: the cover changed within a wake"
        if self.phase not in ("runnable", "running"):
            return f"a claim of a task that is {self.phase}"
        self.cancel = self.asked
        self.phase, self.cover, self.claim, self.starts = "running", started.cover, n, self.starts + 1
        return "P1: more starts without progress than attempts" if self.starts > self.max_attempts else None


def _is_exhausted(each: Event) -> bool:
    return each.type == task.FAILED and each.data.error.code == codes.ATTEMPTS_EXHAUSTED


def takeovers(entries: tuple[Entry, ...]) -> int:
    """Claims of a running task whose owner had not left by itself; a router that releases it for him is no excuse."""
    count, owned = 0, False
    for entry in entries:
        for each in entry.commit.events:
            if each.type == task.STARTED:
                count, owned = count + owned, True
            elif each.type in (task.SUSPENDED, task.RESUMED):
                owned = False
            elif each.type == task.RELEASED:
                owned = owned and not entry.commit.by.startswith(EXECUTOR)
    return count


def check_ack(sent: Sent, seq: int, entries: tuple[Entry, ...], waits: int) -> str | None:
    """What an acknowledgement of this message would lose, given the log as it is."""
    head = entries[-1].commit.head if entries else Head()
    body: Any = sent.body
    if isinstance(body, Order) and not entries:
        return "invariant 6: a submit was acknowledged and has no log"
    if isinstance(body, TaskSignal) and body.kind == signal.CANCEL and not head.cancel and head.phase != "ended":
        return "invariant 5: a cancel that was durably accepted is lost"
    if isinstance(body, TaskSignal) and body.kind == signal.STEER and head.phase != "ended":
        refused = not entries and waits >= MAX_SIGNAL_WAITS
        if not refused and body.id not in _ids(entries):
            return "invariant 6: a signal was acknowledged and is not in the log"
    if isinstance(body, Run) and head.phase == "running" and head.cover == seq:
        return "Q1: an acknowledgement removed the command that covers a running task"
    if isinstance(body, Call) and head.phase != "ended" and not has_result(entries, body.step):
        covers = [each.data.cover for each in _starts(entries, body.step)]
        if not covers or covers[-1] == seq:
            return f"T1: the call of '{body.step}' was acknowledged and has no result"
    return None


def given_up(commit: Commit) -> tuple[str, str]:
    """The call that this commit declares over without its having been made, and what only a fault may cause."""
    for each in commit.events:
        if (
            each.type == step.FAILED
            and each.data.error not in (STOPPED, FAILED, LEFT)
            and commit.by.startswith(TOOL_RUNNER)
        ):
            canceled = each.data.error.code == codes.TOOL_FAILED
            return each.data.step, "" if canceled else f"'{each.data.step}' has an unknown outcome"
    return "", ""


def _starts(entries: tuple[Entry, ...], key: str) -> list[Event]:
    return [e for entry in entries for e in entry.commit.events if e.type == step.STARTED and e.data.step == key]


def _ids(entries: tuple[Entry, ...]) -> set[str]:
    return {each.data.id for entry in entries for each in entry.commit.events if each.type == task.MESSAGE_RECEIVED}


def has_result(entries: tuple[Entry, ...], key: str) -> bool:
    """Whether the log holds the result of this step."""
    kinds = (step.COMPLETED, step.FAILED)
    return any(each.type in kinds and each.data.step == key for entry in entries for each in entry.commit.events)
