"""What a process can do next, given itself and the log of its task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from mesh.log.head import EXECUTOR, TOOL_RUNNER
from mesh.log.ops import Ack, Append, Drop, Holds, Message, Nak, Perform, Publish, Read, ReadAfter, ReadFirst, Tell
from schemas import envelope, step, task
from schemas.command import Call, DeadLetter, Ended, Fired, Run
from schemas.envelope import Head
from schemas.signal import Told
from services.router.rules import Order
from tests.model import facts, invariants
from tests.model.edges import Budget, Move, State
from tests.model.parts import (
    DONE,
    DRAIN,
    FAILED,
    FRESH,
    HELD,
    LEFT,
    STOPPED,
    TOLD,
    Dies,
    Effect,
    Follow,
    GiveBack,
    Hangs,
    Idle,
    InQueue,
    Lapse,
    Look,
    Sure,
    Tick,
    Undo,
    Verb,
)
from tests.model.registers import Registers
from tests.model.scenario import Scenario
from tests.model.tables import Answer, Done, Process, Sent

MAX_DELIVERED = 9
UNCLAIMED = "executor/-"


class Moves:
    """All moves of one exploration, worked out once for each process and log."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.tables = Registers(scenario)
        self._known: dict[tuple[int, int], list[Move]] = {}
        self._begun: dict[tuple[int, ...], list[int]] = {}
        self._ended: dict[int, int] = {}
        self._alikes: dict[Any, int] = {}
        self._kinds: dict[type, Callable[[Process, Any, int], list[Move]]] = {
            Append: self._append,
            Read: self._read,
            ReadAfter: self._read,
            ReadFirst: self._read,
            Publish: self._publish,
            Tell: self._tell,
            Perform: self._perform,
            Look: self._look,
            Tick: self._tick,
            Hangs: self._hangs,
            Follow: self._follow,
            Idle: self._idle,
            Undo: self._undo,
            Sure: self._sure,
            Lapse: self._lapse,
            Effect: self._effect,
            Dies: self._dies,
            InQueue: self._in_queue,
            Holds: self._holds,
            GiveBack: self._give_back,
            Verb: self._verb,
            Done: self._done,
        }

    def of(self, number: int, log: int) -> list[Move]:
        """What this process can do while its task's log is that."""
        moves = self._known.get((number, log))
        if moves is None:
            process = self.tables.processes.values[number]
            op = self.tables.op_of[number]
            moves = self._kinds[type(op)](process, op, log)
            if self.tables.histories.dirty[process.history]:
                moves.append(Move(f"CRASH of {self._name(process)}", cost=Budget.CRASHES, used=1, helps=False))
            self._known[number, log] = moves
        return moves

    def begin(
        self, role: int, message: int, version: int, logs: tuple[int, ...], groups: tuple[tuple[int, ...], ...]
    ) -> list[int]:
        """The process that a delivery starts; -1 if it is over at once."""
        log = logs[self.tables.tasks.index(self.tables.sent(message).task)]
        counts = self._counts(role, message, log, groups)
        key = (role, message, version, log, *counts)
        begun = self._begun.get(key)
        if begun is None:
            histories = [self.tables.histories.start(str(version), count) for count in counts]
            begun = self._begun[key] = [self._settle(Process(role, message, history), log) for history in histories]
        return begun

    def _counts(self, role: int, message: int, log: int, groups: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
        """The delivery counts that a run command or a call may have now.

        Only that a count grows matters, so it goes on from the highest in sight; of a copy that the log does not name
        it may also be higher than that of the copy named there. Late workers that give back what they hold could make
        it grow for ever; from the limit on it stands still.
        """
        if not role:
            return (1,)
        t = self.tables
        head = t.logs.heads[log]
        seen = [head.delivery] if head.cover == t.seq(message) else []
        seq, body = t.seq(message), t.sent(message).body
        starts = t.logs.starts[log]
        seen += [one.delivery for one in starts if one.cover == seq]
        seen += [t.delivered_of[p] for group in groups for p in group if t.message_of[p] == message]
        others = [one.delivery for one in starts if isinstance(body, Call) and one.step == body.step]
        return tuple(sorted({min(MAX_DELIVERED, max(some, default=0) + 1) for some in (seen, seen or others)}))

    def well_ended(self, log: int, facts: int) -> bool:
        """Whether a task ended and all was said that its end asks for."""
        owed = self._ended.get(log)
        if owed is None:
            owed = self._ended[log] = self._owed(log)
        return owed >= 0 and facts & owed == owed

    def _owed(self, log: int) -> int:
        head = self.tables.logs.heads[log]
        if head.phase != "ended":
            return -1
        owed = 0
        for name in facts.owed(self.tables.logs.entries[log], self.scenario.program):
            owed |= self.tables.fact(name)
        return owed

    def _name(self, process: Process) -> str:
        role = self.tables.roles[process.role].name + " (late)" * process.late
        return f"{role}[{self.tables.name(process.message)}]"

    def _next(self, process: Process, log: int, *answers: Answer) -> int:
        history = process.history
        for answer in answers:
            history = self.tables.histories.add(history, answer)
        return self._settle(process._replace(history=history), log)

    def _settle(self, process: Process, log: int) -> int:
        """The process after everything that can be merged into the step it has just made."""
        add, last = self.tables.histories.add, self.tables.histories.last
        while True:
            op = self.tables.op(process)
            kind = last(process.history)
            if isinstance(op, Done) and isinstance(op.verdict, Drop):
                return -1
            if isinstance(op, ReadFirst):
                answer: Answer = ("first", log)
            elif isinstance(op, ReadAfter) and kind in ("conflict", "stored", "after"):
                answer = ("after", log, process.lost)
                process = process._replace(lost=-1)
            elif isinstance(op, ReadAfter) and kind == "stale":
                answer = ("after", log, process.lost)
            elif isinstance(op, Read | ReadAfter) and kind in ("start", "after"):
                answer = ("read" if isinstance(op, Read) else "after", log, process.lost)
            else:
                return self.tables.process(self._alike(process, op, log))
            process = process._replace(history=add(process.history, answer))

    def _alike(self, process: Process, op: Any, log: int) -> Process:
        """The process with the first history that leads to where it stands.

        Only for operations that say, with what was read of the log, all that its further way depends on.
        """
        if isinstance(op, Idle | Effect):
            seen = op.view.seq if isinstance(op, Idle) else max(op.view.seq, op.seen)
        elif isinstance(op, Append) and (op.commit.by == UNCLAIMED or not op.commit.by.startswith(EXECUTOR)):
            seen = op.expected
        elif isinstance(op, Done):
            seen = 0
        else:
            return process
        line = self.tables.logs.lines[log]
        if seen >= len(line):
            return process
        histories = self.tables.histories
        dirty, delivered = histories.dirty[process.history], histories.delivered(process.history)
        key = (process.role, process.message, delivered, dirty, op, line[seen])
        return process._replace(history=self._alikes.setdefault(key, process.history))

    def _append(self, process: Process, op: Append, log: int) -> list[Move]:
        label = f"{self._name(process)}: append {' + '.join(e.type for e in op.commit.events)}"
        last = len(self.tables.logs.entries[log])
        unknown = Move(
            f"{label} -> NO ANSWER, not stored",
            self._next(process, log, ("unknown",)),
            cost=Budget.LOST_ACKS,
            helps=False,
        )
        moves = [unknown]
        if op.expected != last and self.scenario.fenced:
            moves.append(Move(f"{label} -> 10071", self._next(process, log, ("conflict", last))))
        else:
            moves += self._stored(process, op, log, label)
        if process.role:
            blank = self._next(process, 0, ("conflict", 0))
            moves.append(Move(f"{label} -> 10071, NO LOG", blank, cost=Budget.BLANKS, used=1, helps=False))
        return moves

    def _stored(self, process: Process, op: Append, log: int, label: str) -> list[Move]:
        logs = self.tables.logs
        new = logs.add(log, op.commit)
        entries = logs.entries[new]
        seq = len(entries)
        violation = invariants.check_log(entries, self.scenario.max_attempts)
        claims = any(event.type == task.STARTED for event in op.commit.events)
        given_up, why = invariants.given_up(op.commit)
        common = Move(
            f"{label} -> stored @{seq}", log=new, violation=violation,
            takeovers=invariants.takeovers(entries) if claims else 0, gives_up=given_up, blames=why,
        )  # fmt: skip
        lost = process._replace(lost=op.commit.n)
        return [
            replace(common, process=self._next(process, new, ("stored", seq))),
            replace(
                common, label=f"{label} -> stored @{seq}, ACK LOST", process=self._next(lost, new, ("unknown",)),
                cost=Budget.LOST_ACKS, helps=False,
            ),
        ]  # fmt: skip

    def _read(self, process: Process, op: Read | ReadAfter, log: int) -> list[Move]:
        kind = "read" if isinstance(op, Read) else "after"
        name, size = self._name(process), len(self.tables.logs.entries[log])
        moves = [Move(f"{name}: read -> {size} commits", self._next(process, log, (kind, log, process.lost)))]
        if process.role:
            blank = self._next(process, log, (kind, 0, -1))
            moves.append(Move(f"{name}: read -> NO LOG", blank, cost=Budget.BLANKS, used=1, helps=False))
        return moves

    def _publish(self, process: Process, op: Publish, log: int) -> list[Move]:
        whole = self._publishing(process, op.messages)
        done = replace(whole, process=self._next(process, log, ("none",)))
        moves = [done]
        if whole.publishes:
            moves.append(
                replace(
                    done,
                    label=f"{whole.label}, TWICE",
                    publishes=whole.publishes * 2,
                    cost=Budget.LOST_ACKS,
                    helps=False,
                )
            )
        if len(op.messages) > 1:
            for message in op.messages:
                part = self._publishing(process, (message,))
                moves.append(replace(part, label=f"{part.label}, then CRASH", cost=Budget.CRASHES, used=1, helps=False))
        return moves

    def _publishing(self, process: Process, messages: tuple[Message, ...]) -> Move:
        """What publishing these changes; the process has still to be moved on."""
        publishes, timers, happened = [], [], 0
        name = self.tables.sent(process.message).task
        for message in messages:
            body = message.body
            if message.target:
                timers.append(self.tables.contents(Sent("fired", name, _plain(body))))
            elif isinstance(body, Run):
                # No rule looks at the opening that it carries, and it is nothing that a table can hold.
                publishes.append(self.tables.contents(Sent("run", name, msgspec.structs.replace(body, opening=None))))
            elif isinstance(body, Call):
                publishes.append(self.tables.contents(Sent("call", name, body)))
            elif isinstance(body, Fired):
                publishes.append(self.tables.contents(Sent("fired", name, body)))
            elif isinstance(body, Ended):
                happened |= self.tables.fact(facts.TOLD_END)
            elif isinstance(body, DeadLetter):
                happened |= self.tables.fact(facts.dead(body))
        said = ", ".join(_said(message) for message in messages)
        return Move(
            f"{self._name(process)}: publish {said}", publishes=tuple(publishes), timers=tuple(timers), facts=happened
        )

    def _tell(self, process: Process, op: Tell, log: int) -> list[Move]:
        label, fact = "broadcast", TOLD
        if isinstance(op.body, Told):
            n = envelope.decode(bytes(op.body.commit)).n
            label, fact = f"tells commit {n} as @{op.body.seq}", facts.told(op.body.seq, n)
        return [
            Move(f"{self._name(process)}: {label}", self._next(process, log, ("none",)), facts=self.tables.fact(fact))
        ]

    def _look(self, process: Process, op: Look, log: int) -> list[Move]:
        name, entries = self._name(process), self.tables.logs.entries[log]
        wrong = invariants.has_result(entries, op.step)
        violation = f"invariant 2: step '{op.step}' is about to be made again" if wrong else None
        fresh = Move(
            f"{name}: lease of '{op.step}' is fresh", self._next(process, log, ("value", FRESH)), violation=violation
        )
        moves = [] if process.late else [fresh]
        if process.late or len(entries) != op.seen:
            target = self._next(process, log, ("read", log, -1))
            moves.append(Move(f"{name}: before '{op.step}' read the head", target))
        told = self._next(process, log, ("value", TOLD))
        moves.append(Move(f"{name}: sees the broadcast", told, needs=self.tables.fact(TOLD)))
        drain = self._next(process, log, ("value", DRAIN))
        moves.append(Move(f"{name}: DRAIN", drain, cost=Budget.DRAINS, helps=False))
        return moves

    def _perform(self, process: Process, op: Perform, log: int) -> list[Move]:
        did = self.tables.fact(f"did {op.step}") if op.step.startswith("once") else 0
        kind, seen = self.tables.histories.table.values[process.history][1][:2]
        wrong = kind == "read" and invariants.has_result(self.tables.logs.entries[seen], op.step)
        violation = (
            f"invariant 2: step '{op.step}' is made again, by a worker that has seen its result" if wrong else None
        )
        label = f"{self._name(process)}: PERFORM '{op.step}'"
        return [Move(label, self._next(process, log, ("performed",)), facts=did, once=did, violation=violation)]

    def _tick(self, process: Process, op: Tick, log: int) -> list[Move]:
        if len(self.tables.logs.entries[log]) <= op.seen:
            return []
        return [Move(f"{self._name(process)}: tick", self._next(process, log, ("read", log, -1)))]

    def _follow(self, process: Process, op: Follow, log: int) -> list[Move]:
        return [Move(f"{self._name(process)}: follows the log", self._next(process, log, ("after", log, -1)))]

    def _idle(self, process: Process, op: Idle, log: int) -> list[Move]:
        name = self._name(process)
        moves = [Move(f"{name}: has waited for a while", self._next(process, log, ("value", HELD)))]
        if self._matters(op, log):
            moves.append(Move(f"{name}: hears of news", self._next(process, log, ("after", log, -1))))
        moves += self._tellings(process, op, log)
        told = self._next(process, log, ("value", TOLD))
        moves.append(Move(f"{name}: sees the broadcast", told, needs=self.tables.fact(TOLD)))
        drain = self._next(process, log, ("value", DRAIN))
        moves.append(Move(f"{name}: DRAIN", drain, cost=Budget.DRAINS, helps=False))
        return moves

    def _tellings(self, process: Process, op: Idle, log: int) -> list[Move]:
        """What runners have told of their commits, rightly or not, and this owner has not heard or read."""
        moves = []
        for n, entry in enumerate(self.tables.logs.entries[log] if self.scenario.inbox else ()):
            for seq in range(n + 1, len(self.tables.logs.entries[log]) + 1):
                if entry.commit.by == TOOL_RUNNER and seq > op.after and seq not in op.heard:
                    told = self._next(process, log, ("told", log, seq, n))
                    label = f"{self._name(process)}: is told of commit {n} as @{seq}"
                    moves.append(Move(label, told, needs=self.tables.fact(facts.told(seq, n))))
        return moves

    def _matters(self, op: Idle, log: int) -> bool:
        """Whether the log holds news that an owner who waits does something about."""
        head, entries = self.tables.logs.heads[log], self.tables.logs.entries[log]
        if head.cancel or head.phase != "running" or head.claim != op.claim:
            return True
        news = [each for entry in entries[op.after :] for each in entry.commit.events]
        return any(each.type in (step.COMPLETED, step.FAILED) for each in news)

    def _undo(self, process: Process, op: Undo, log: int) -> list[Move]:
        undone = self.tables.fact(facts.undone(op.step))
        return [Move(f"{self._name(process)}: undoes '{op.step}'", self._next(process, log, ("none",)), facts=undone)]

    def _sure(self, process: Process, op: Sure, log: int) -> list[Move]:
        head = self.tables.logs.heads[log]
        over = head.cancel or head.phase == "ended"
        return [Move(f"{self._name(process)}: finds the request", self._next(process, log, ("none",)))] if over else []

    def _lapse(self, process: Process, op: Lapse, log: int) -> list[Move]:
        """E2 for a runner: one whose delivery was handed to somebody else looks at the log."""
        name = self._name(process)
        stale = ("stale", len(self.tables.logs.entries[log]))
        moves = [Move(f"{name}: looks whether the call is still its own", self._next(process, log, stale))]
        if not process.late:
            moves.append(Move(f"{name}: its start is fresh", self._next(process, log, ("value", 0))))
        return moves

    def _effect(self, process: Process, op: Effect, log: int) -> list[Move]:
        """A tool runs, or is stopped: by a tick that shows the end or a cancel, or by the broadcast (T4)."""
        name, entries, head = self._name(process), self.tables.logs.entries[log], self.tables.logs.heads[log]
        key = op.tool.key
        if op.tool.kills:
            return [Move(f"{name}: is killed by '{key}'", used=1)]
        seen = invariants.has_result(entries[: op.seen], key)
        wrong = f"invariant 2: tool '{key}' is made by a runner that has seen its result" if seen else None
        did = self.tables.fact(f"did {key}") if op.tool.once else 0
        blames = "a tool is made after its result" if invariants.has_result(entries, key) else ""
        made = Move(f"{name}: PERFORM '{key}'", facts=did, once=did, violation=wrong, blames=blames)
        moves = []
        if not op.tool.hangs:
            moves.append(replace(made, process=self._next(process, log, ("made", DONE))))
        if op.attempt < op.tool.tries:
            moves.append(
                replace(made, label=f"{made.label} in vain", process=self._next(process, log, ("made", FAILED)))
            )
        stopped = replace(made, process=self._next(process, log, ("made", STOPPED)), violation=None, blames="")
        if head.phase == "ended" or head.cancel:
            moves.append(replace(stopped, label=f"{name}: a tick stops '{key}'"))
        moves.append(replace(stopped, label=f"{name}: the broadcast stops '{key}'", needs=self.tables.fact(TOLD)))
        left = self._next(process, log, ("made", LEFT))
        moves.append(replace(stopped, label=f"{name}: LEAVES '{key}'", process=left, cost=Budget.DRAINS, helps=False))
        return moves

    def _hangs(self, process: Process, op: Hangs, log: int) -> list[Move]:
        head = self.tables.logs.heads[log]
        if head.phase == "running" and head.claim == op.claim:
            return []
        return [Move(f"{self._name(process)}: tick", self._next(process, log, ("read", log, -1)))]

    def _dies(self, process: Process, op: Dies, log: int) -> list[Move]:
        return [Move(f"{self._name(process)}: is killed by the task", used=1)]

    def _in_queue(self, process: Process, op: InQueue, log: int) -> list[Move]:
        name = self._name(process)
        there = self._next(process, log, ("value", True))
        gone = self._next(process, log, ("value", False))
        return [
            Move(f"{name}: its command is in the queue", there, when=lambda s, t: _asks_for(s[1], t, op.head)),
            Move(f"{name}: its command is not in the queue", gone, when=lambda s, t: not _asks_for(s[1], t, op.head)),
        ]

    def _holds(self, process: Process, op: Holds, log: int) -> list[Move]:
        """A holder in good standing answers; a late one may be silent, but for no reason only after a fault.

        A router asks a worker whose connection is gone, so it may always hear nothing.
        """
        name, router = self._name(process), process.role == 0
        yes = self._next(process, log, ("value", True))
        no = self._next(process, log, ("value", False))
        own = self.tables.processes(process)

        def holders(state: State, tables: Registers) -> set[bool]:
            """Whether each of those who hold the delivery is late."""
            found = [p for group in state[2] for p in group if p != own and tables.message_of[p] == op.seq - 1]
            return {tables.is_late[p] for p in found if tables.delivered_of[p] == op.delivery}

        def silent(state: State, tables: Registers) -> bool:
            late = holders(state, tables)
            return router or not late or (late == {True} and state[5][Budget.USED] > 0)

        return [
            Move(f"{name}: the holder answers", yes, when=lambda s, t: bool(holders(s, t))),
            Move(f"{name}: no holder answers", no, when=silent),
        ]

    def _give_back(self, process: Process, op: GiveBack, log: int) -> list[Move]:
        label = f"{self._name(process)}: gives #{op.seq} back"
        return [Move(label, self._next(process, log, ("none",)), gives_back=(op.seq - 1, op.delivery))]

    def _verb(self, process: Process, op: Verb, log: int) -> list[Move]:
        move = self._verdict(process, op.verdict, log)
        return [replace(move, process=self._next(process, log, ("none",)))]

    def _done(self, process: Process, op: Done, log: int) -> list[Move]:
        return [self._verdict(process, op.verdict, log)]

    def _verdict(self, process: Process, verdict: Any, log: int) -> Move:
        name = self._name(process)
        if isinstance(verdict, Nak):
            return Move(f"{name}: nak", naks=True)
        if not isinstance(verdict, Ack):
            raise TypeError(f"{name} ended with {verdict!r}")
        sent, entries = self.tables.sent(process.message), self.tables.logs.entries[log]
        violation = invariants.check_ack(sent, self.tables.seq(process.message), entries, self.scenario.waits)
        owes = 0
        if isinstance(sent.body, Order) and entries:
            opening = entries[0].commit.events[0].data
            if getattr(opening, "digest", sent.body.opening.digest) != sent.body.opening.digest:
                owes = self.tables.fact(facts.dead(sent.body.letter))
        return Move(f"{name}: ack", acks=True, violation=violation, owes=owes)


def _plain(body: Any) -> Fired:
    """A timer without its delay, which nothing here depends on and which would only multiply states."""
    fired: Fired = msgspec.structs.replace(body, delay_s=0.0)
    return fired


def _said(message: Message) -> str:
    if isinstance(message.body, Run):
        return f"run(wake {message.body.wake})"
    if isinstance(message.body, Call):
        return f"call of {message.body.step}" + ", again" * message.body.again
    return message.subject.partition(".")[2]


def _asks_for(queue: tuple[int, ...], tables: Registers, head: Head) -> bool:
    runs = [m for m in queue if tables.kind(m) == "run"]
    if head.phase == "running":
        return any(tables.seq(m) == head.cover for m in runs)
    return any(tables.sent(m).body.wake == head.wake for m in runs)
