"""The broker, its clients and the services as one model that can be searched.

A state is `(logs, queue, processes, timers, facts, budget)`, all small integers. What a process can do depends on
itself and on its task's log alone, so its moves are worked out once for each such pair (`moves.py`) and applied here.

Merged into one step, because nothing that others can see lies between: a delivery and its first read; a refused append
(once refused it always is) and the reads after it; an own append and the read after it; a drop and what went before.
"""

from __future__ import annotations

from schemas.command import Call
from tests.model.edges import Budget, Move, State
from tests.model.moves import Moves
from tests.model.parts import Cut
from tests.model.scenario import Scenario
from tests.model.tables import Delivered, Sent

MAX_USED = 9
Found = tuple[str, State, bool, str | None]


def _broken(move: Move, facts: int, budget: tuple[int, ...]) -> str | None:
    """What this move breaks, given what has happened so far."""
    if move.once & facts:
        return "invariant 3: an effect that must not be repeated was performed twice"
    if move.owes & ~facts:
        return "invariant 6: another body under the same id was dropped without a dead letter"
    if move.takeovers > budget[Budget.USED]:
        return "a take-over that no fault caused"
    if move.blames and not budget[Budget.USED]:
        return f"{move.blames}, that no fault caused"
    return None


def _spent(budget: tuple[int, ...], cost: int, used: int) -> tuple[int, ...]:
    spent = list(budget)
    if cost >= 0:
        spent[cost] -= 1
    spent[Budget.USED] = min(MAX_USED, spent[Budget.USED] + used)
    return tuple(spent)


class World:
    """One scenario as a model."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.moves = Moves(scenario)
        self.tables = self.moves.tables
        tasks = self.tables.tasks
        self.reconciles = [
            self.tables.messages(Delivered(self.tables.contents(Sent("reconcile", task, None)), 0)) for task in tasks
        ]
        self.limits = [role.limit for role in self.tables.roles]
        self.must_exist = any(sent.kind == "submit" or sent.body.kind == "cancel" for sent in scenario.client)

    def initial(self) -> State:
        f = self.scenario.faults
        queue: tuple[int, ...] = ()
        for sent in self.scenario.client:
            copy = self.scenario.client[: len(queue)].count(sent)
            queue = tuple(sorted((*queue, self.tables.messages(Delivered(self.tables.contents(sent), copy)))))
        budget = (f.crashes, f.pauses, f.lost_acks, f.drains, f.purges, f.blanks, f.lapses, f.cuts, 0, 1)
        empty = tuple(() for _ in self.tables.roles)
        return (tuple(0 for _ in self.tables.tasks), queue, empty, (), 0, budget)

    def edges(self, state: State) -> list[Found]:
        found: list[Found] = []
        logs, _, groups, _, _, budget = state
        task_of, moves_of = self.tables.task_of, self.moves.of
        for role, group in enumerate(groups):
            last = -1
            for process in group:
                if process == last:
                    continue
                last = process
                for move in moves_of(process, logs[task_of[process]]):
                    if (move.cost < 0 or budget[move.cost]) and move.needs & state[4] == move.needs:
                        self._apply(state, role, process, move, found)
        self._deliveries(state, found)
        self._environment(state, found)
        return found

    def _apply(self, state: State, role: int, process: int, move: Move, found: list[Found]) -> None:
        logs, queue, groups, timers, facts, budget = state
        if move.when is not None and not move.when(state, self.tables):
            return
        violation = move.violation or _broken(move, facts, budget) or self._premature(move, process, groups)
        if move.log >= 0:
            at = self.tables.task_of[process]
            logs = (*logs[:at], move.log, *logs[at + 1 :])
        if move.cost >= 0 or move.used:
            budget = _spent(budget, move.cost, move.used)
        members = list(groups[role])
        members.remove(process)
        if move.process >= 0:
            members.append(move.process)
            members.sort()
        groups = (*groups[:role], tuple(members), *groups[role + 1 :])
        if move.acks:
            message = self.tables.processes.values[process].message
            queue = tuple([m for m in queue if m != message])
        elif move.naks:
            budget = self._given_back(groups, budget, self.tables.processes.values[process].message)
        if move.gives_back is not None:
            message, delivery = move.gives_back
            groups = self._make_late(groups, message, delivery)
            budget = self._given_back(groups, budget, message)
        for content in move.publishes:
            queue = self._publish(queue, content, logs, groups)
        if move.timers:
            timers = tuple(sorted({*timers, *move.timers}))
        found.append((move.label, (logs, queue, groups, timers, facts | move.facts, budget), move.helps, violation))

    def _premature(self, move: Move, process: int, groups: tuple[tuple[int, ...], ...]) -> str | None:
        """Whether this move gives a call up that somebody is making, whose delivery it still is."""
        if not move.gives_up:
            return None
        others = [p for group in groups for p in group if p != process]
        alive = any(self.tables.calls_of[p] == move.gives_up for p in others)
        return f"T1: the call '{move.gives_up}' is given up while its runner is at it" if alive else None

    def _publish(
        self, queue: tuple[int, ...], content: int, logs: tuple[int, ...], groups: tuple[tuple[int, ...], ...]
    ) -> tuple[int, ...]:
        """Puts a message in the queue under the first copy number that nothing refers to.

        Requests other than run commands and calls have no number that a log could hold, so of equal ones that nobody
        works on one is enough; the clients' own are all kept.
        """
        t = self.tables
        held = {t.message_of[p] for group in groups for p in group}
        covers = t.logs.covers[logs[t.task_of_content(content)]]
        counts = t.contents.values[content].kind in ("run", "call")
        for copy in range(9):
            message = t.messages(Delivered(content, copy))
            if not counts and message in queue and message not in held:
                return queue
            if message not in queue and message not in held and t.seq(message) not in covers:
                return tuple(sorted((*queue, message)))
        raise AssertionError("more copies of one command than any scenario should make")

    def _make_late(
        self, groups: tuple[tuple[int, ...], ...], message: int, delivery: int = 0
    ) -> tuple[tuple[int, ...], ...]:
        """Whoever holds this message, or only this delivery of it, holds it no more, and does not know."""
        t = self.tables

        def late(p: int) -> int:
            held = t.message_of[p] == message and delivery in (0, t.delivered_of[p])
            return t.late_of[p] if held else p

        return tuple([tuple(sorted([late(p) for p in group])) for group in groups])

    def _given_back(
        self, groups: tuple[tuple[int, ...], ...], budget: tuple[int, ...], message: int
    ) -> tuple[int, ...]:
        """A delivery was given back; where somebody else holds a later one, it comes again beside that."""
        t = self.tables
        if not any(t.message_of[p] == message and not t.is_late[p] for group in groups for p in group):
            return budget
        at = Budget.LAPSES
        return (*budget[:at], min(MAX_USED, budget[at] + 1), *budget[at + 1 :])

    def _deliveries(self, state: State, found: list[Found]) -> None:
        """Hands messages out; once more while the holder lives, if it may pause or its lease may lapse."""
        logs, queue, groups, timers, facts, budget = state
        t = self.tables
        held = {t.message_of[p] for group in groups for p in group if not t.is_late[p]}
        for message in queue:
            again = message in held
            ways = [("", groups, budget)] if not again else []
            if again and budget[Budget.PAUSES]:
                spent = _spent(budget, Budget.PAUSES, 1)
                ways.append((" AGAIN, its holder lives", self._make_late(groups, message), spent))
            if again and budget[Budget.LAPSES]:
                ways.append((" AGAIN, its holder answers", groups, _spent(budget, Budget.LAPSES, 0)))
            for role in t.roles_of(message):
                if len(groups[role]) >= self.limits[role] or t.roles[role].version > budget[Budget.VERSION]:
                    continue
                for process in self.moves.begin(role, message, budget[Budget.VERSION], logs, groups):
                    for said, after, spent in ways:
                        group = after[role] if process < 0 else tuple(sorted((*after[role], process)))
                        target = (logs, queue, (*after[:role], group, *after[role + 1 :]), timers, facts, spent)
                        label = f"deliver {t.name(message)} to {t.roles[role].name}{said}"
                        found.append((label, target, not again, None))

    def _environment(self, state: State, found: list[Found]) -> None:
        """Timers that fire, a purge, a deployment, a pass of the reconciler."""
        logs, queue, groups, timers, facts, budget = state
        t = self.tables
        for content in timers:
            rest = tuple([c for c in timers if c != content])
            sent = t.contents.values[content]
            target = (logs, self._publish(queue, content, logs, groups), groups, rest, facts, budget)
            found.append((f"timer {sent} fires", target, sent.body.kind in self.scenario.helping, None))
        if budget[Budget.PURGES] and all(logs):
            kept = tuple([m for m in queue if t.kind(m) != "run"])
            robbed = groups
            for message in queue:
                robbed = self._make_late(robbed, message) if t.kind(message) == "run" else robbed
            spent = _spent(budget, Budget.PURGES, 1)
            found.append(("PURGE of the run commands", (logs, kept, robbed, timers, facts, spent), False, None))
        if self.scenario.deploys and budget[Budget.VERSION] == 1:
            found.append(("app version 2 is deployed", (*state[:5], (*budget[: Budget.VERSION], 2)), True, None))
        if self.scenario.reconciler and len(groups[0]) < self.limits[0]:
            for message in self.reconciles:
                if not any(t.message_of[p] == message for p in groups[0]):
                    for process in self.moves.begin(0, message, budget[Budget.VERSION], logs, groups):
                        group = groups[0] if process < 0 else tuple(sorted((*groups[0], process)))
                        found.append(("reconcile", (logs, queue, (group, *groups[1:]), *state[3:]), True, None))

        if self.scenario.events and len(groups[0]) < self.limits[0]:
            self._closed(state, found)

    def _closed(self, state: State, found: list[Found]) -> None:
        """The broker reports the connection closed of a worker that held what the log names."""
        logs, queue, now, timers, facts, budget = state
        t = self.tables
        for message in queue:
            log = logs[t.tasks.index(t.sent(message).task)]
            lost = self._lost(message, log)
            if lost is None:
                continue
            holders = [p for group in now for p in group if t.message_of[p] == message]
            lives = any(t.delivered_of[p] == lost.delivery for p in holders)
            event = t.messages(Delivered(t.contents(Sent("cut", t.sent(message).task, lost)), 0))
            if (lives and not budget[Budget.CUTS]) or any(t.message_of[p] == event for p in now[0]):
                continue
            spent = _spent(budget, Budget.CUTS, 1) if lives else budget
            # A worker that lost its connection looks at the log before each effect (E2).
            groups = self._make_late(now, message, lost.delivery)
            for process in self.moves.begin(0, event, budget[Budget.VERSION], logs, groups):
                group = tuple(sorted((*groups[0], process)))
                label = f"the connection that holds {t.name(message)} is closed" + ", its worker LIVES" * lives
                found.append((label, (logs, queue, (group, *groups[1:]), timers, facts, spent), False, None))

    def _lost(self, message: int, log: int) -> Cut | None:
        """The delivery of this command under which somebody works by the log."""
        t, body = self.tables, self.tables.sent(message).body
        seq, head = t.seq(message), t.logs.heads[log]
        if isinstance(body, Call):
            starts = [one for one in t.logs.starts[log] if one.cover == seq and one.step == body.step]
            return Cut(seq, starts[-1].delivery, body) if starts else None
        return Cut(seq, head.delivery) if head.phase == "running" and head.cover == seq else None

    def is_goal(self, state: State) -> bool:
        """Nothing left to do, every task ended, and everybody told who should be."""
        logs, queue, groups, _, facts, _ = state
        if queue or any(groups):
            return False
        return all(self.moves.well_ended(log, facts) for log in logs if log or self.must_exist)

    def describe(self, state: State) -> str:
        """The state for a person who reads a trace."""
        logs, queue, groups, timers, facts, budget = state
        t = self.tables
        lines = []
        for task, log in zip(t.tasks, logs, strict=True):
            lines.append(f"  log of {task}:")
            for entry in t.logs.entries[log]:
                c = entry.commit
                lines.append(f"    {entry.seq} {' + '.join(e.type for e in c.events)} by {c.by} -> {c.head}")
        lines.append(f"  queue: {', '.join(t.name(m) for m in queue) or 'empty'}")
        for group in groups:
            for p in group:
                process = t.processes.values[p]
                late = " (late)" if process.late else ""
                lines.append(f"  {t.roles[process.role].name}{late} with {t.name(process.message)} at {t.op_of[p]}")
        lines.append(f"  timers: {', '.join(str(t.contents.values[c]) for c in timers) or 'none'}")
        lines.append(f"  facts: {', '.join(t.fact_names(facts)) or 'none'}; budget {Budget.said(budget)}")
        return "\n".join(lines)
