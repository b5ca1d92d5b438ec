"""Everything a state refers to, interned: logs, messages and processes are small integers.

A process is its delivery and the answers it has had; its next operation is found by replaying its flow, once for each
such history. Nonces never stand in a log here: a process whose append was stored without its knowing remembers which
commit that was (`lost`), and is shown that one as its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from mesh.log.head import Entry
from mesh.log.ops import UNKNOWN, Conflict, Stored
from schemas import step
from schemas.envelope import Commit, Head
from schemas.step import StepCompleted, StepStarted
from tests.model.parts import MINE

K = TypeVar("K", bound=Hashable)
WRITES = frozenset({"stored", "unknown", "none", "performed", "made"})


class Table(Generic[K]):
    """Values by number, numbers by value."""

    def __init__(self) -> None:
        self.numbers: dict[K, int] = {}
        self.values: list[K] = []

    def __call__(self, value: K) -> int:
        number = self.numbers.get(value)
        if number is None:
            number = self.numbers[value] = len(self.values)
            self.values.append(value)
        return number


class Logs:
    """Logs as numbers; each is another one and a commit more, and `lines` are all these from the empty one on."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, Commit], int] = {}
        self.entries: list[tuple[Entry, ...]] = [()]
        self.heads: list[Head] = [Head()]
        self.covers: list[frozenset[int]] = [frozenset()]
        self.lines: list[tuple[int, ...]] = [(0,)]
        self.starts: list[tuple[StepStarted, ...]] = [()]

    def add(self, log: int, commit: Commit) -> int:
        """The log that this commit makes of that one."""
        commit = replace(commit, nonce="")
        number = self.known.get((log, commit))
        if number is None:
            number = self.known[log, commit] = len(self.entries)
            entries = self.entries[log]
            self.entries.append((*entries, Entry(len(entries) + 1, commit)))
            self.heads.append(commit.head)
            self.lines.append((*self.lines[log], number))
            starts = [each.data for each in commit.events if each.type == step.STARTED]
            self.starts.append((*self.starts[log], *starts))
            self.covers.append(self.covers[log] | {commit.head.cover} | {one.cover for one in starts})
        return number

    def newest(self, log: int, lost: int = -1) -> Entry | None:
        entries = self.entries[log]
        return _shown(entries[-1], lost) if entries else None

    def after(self, log: int, seq: int, lost: int = -1) -> tuple[Entry, ...]:
        return tuple([_shown(entry, lost) for entry in self.entries[log][seq:]])


def _shown(entry: Entry, lost: int) -> Entry:
    if entry.commit.n != lost:
        return entry
    return Entry(entry.seq, replace(entry.commit, nonce=MINE))


class Sent(Struct, frozen=True):
    """What a message says, whoever sent it and however often."""

    kind: str
    task: str
    body: Any

    def __str__(self) -> str:
        said = getattr(self.body, "kind", "") or getattr(self.body, "digest", "")
        if self.kind == "run":
            said = f"wake {self.body.wake}, last {self.body.last}"
        if self.kind == "call":
            said = f"{self.body.step}{', again' * self.body.again}, last {self.body.last}"
        return f"{self.kind}({said})" if said else self.kind


class Delivered(NamedTuple):
    """A message of the work queue: what it says, and which copy of it this is."""

    content: int
    copy: int


class Process(NamedTuple):
    """A delivery that somebody works on.

    `history` is a number of `Histories`; `late` says that the delivery has been handed to somebody else meanwhile,
    `lost` is the `n` of a commit that was stored without this process having been told.
    """

    role: int
    message: int
    history: int
    late: bool = False
    lost: int = -1


class Done(NamedTuple):
    """The flow has ended, with this verdict."""

    verdict: Any


Answer = tuple[Any, ...]


class Histories:
    """Answers so far, as numbers; each is another history and an answer more."""

    def __init__(self, logs: Logs) -> None:
        self.logs = logs
        self.table: Table[tuple[int, Answer]] = Table()
        self.dirty: list[bool] = []

    def start(self, version: str, delivered: int) -> int:
        return self.add(-1, ("start", version, delivered))

    def delivered(self, history: int) -> int:
        """The delivery count that a history began with."""
        while history >= 0:
            history, answer = self.table.values[history]
        count: int = answer[2]
        return count

    def add(self, history: int, answer: Answer) -> int:
        number = self.table((history, answer))
        if number == len(self.dirty):
            self.dirty.append(answer[0] in WRITES or (history >= 0 and self.dirty[history]))
        return number

    def last(self, history: int) -> str:
        kind: str = self.table.values[history][1][0]
        return kind

    def replay(self, history: int, begin: Callable[[str, int], Any]) -> Any:
        """The operation that a flow with this history asks for next, or `Done`."""
        answers = []
        while history >= 0:
            history, answer = self.table.values[history]
            answers.append(answer)
        flow = begin(*answers.pop()[1:])
        try:
            op = next(flow)
            while answers:
                op = flow.send(self._answer(op, answers.pop()))
        except StopIteration as stop:
            return Done(stop.value)
        return op

    def _answer(self, op: Any, answer: Answer) -> Any:
        kind = answer[0]
        if kind == "stored":
            return Stored(answer[1])
        if kind == "conflict":
            return Conflict(answer[1])
        if kind == "unknown":
            return UNKNOWN
        if kind == "read":
            return self.logs.newest(answer[1], answer[2])
        if kind == "after":
            return self.logs.after(answer[1], op.after, answer[2])
        if kind == "first":
            return self.logs.entries[answer[1]][0]
        if kind == "told":
            return Entry(answer[2], self.logs.entries[answer[1]][answer[3]].commit)
        if kind == "performed":
            return StepCompleted(step=op.step, attempt=op.attempt)
        if kind == "none":
            return None
        return answer[1]
