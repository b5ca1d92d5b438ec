"""Breadth-first search over every state a model can reach, with its shortest counterexamples.

A model gives its first state, the moves out of a state, and which states are a good end. The search stops at the first
violation. If there is none, it asks of every state whether some path without a fault leads to a good end: a state from
which none does is stuck.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)
MAX_STATES = 3_000_000


class Model(Protocol[S]):
    """What can be searched."""

    def initial(self) -> S: ...

    def edges(self, state: S) -> Sequence[tuple[str, S, bool, str | None]]:
        """Label, target, whether a fault-free world makes this move, and what it breaks."""
        ...

    def is_goal(self, state: S) -> bool: ...

    def describe(self, state: S) -> str: ...


@dataclass(frozen=True)
class Result:
    """What a search found; `trace` is a shortest path to the violation, then the state it led to."""

    states: int
    edges: int
    seconds: float
    violation: str | None = None
    trace: list[str] = field(default_factory=list)
    end: str = ""

    def __str__(self) -> str:
        rate = self.states / max(self.seconds, 1e-9)
        size = f"{self.states} states, {self.edges} edges, {self.seconds:.1f} s, {rate:.0f} states/s"
        if self.violation is None:
            return f"holds: {size}"
        steps = "\n".join(f"  {i:>3}. {label}" for i, label in enumerate(self.trace, 1))
        return f"VIOLATED: {self.violation} ({size})\n{steps}\n{self.end}"


class Search(Generic[S]):
    """One search; everything it has seen stays in memory until it is dropped."""

    def __init__(self, model: Model[S], max_states: int = MAX_STATES) -> None:
        self.model = model
        self.max_states = max_states
        self.states: list[S] = []
        self.parents: list[int] = []
        self.labels: list[str] = []
        self.before: list[list[int]] = []
        self.goals: list[int] = []
        self.edges = 0
        self.began = time.process_time()

    def run(self) -> Result:
        """Searches until everything is seen or something is broken."""
        gc.disable()  # it would walk through millions of tuples again and again, and find nothing
        try:
            return self._run()
        finally:
            gc.enable()

    def _run(self) -> Result:
        first = self.model.initial()
        index = {first: 0}
        self._add(first, -1, "")
        at = 0
        while at < len(self.states):
            state = self.states[at]
            if self.model.is_goal(state):
                self.goals.append(at)
            for label, target, helps, violation in self.model.edges(state):
                self.edges += 1
                if violation is not None:
                    return self._result(violation, [*self._trace(at), label], target)
                known = index.get(target)
                if known is None:
                    known = index[target] = len(self.states)
                    self._add(target, at, label)
                if helps:
                    self.before[known].append(at)
            at += 1
            if at > self.max_states:
                raise RuntimeError(f"more than {self.max_states} states: make the bounds smaller")
        return self._liveness()

    def _add(self, state: S, parent: int, label: str) -> None:
        self.states.append(state)
        self.parents.append(parent)
        self.labels.append(label)
        self.before.append([])

    def _liveness(self) -> Result:
        good = bytearray(len(self.states))
        todo = list(self.goals)
        for at in todo:
            good[at] = 1
        while todo:
            for at in self.before[todo.pop()]:
                if not good[at]:
                    good[at] = 1
                    todo.append(at)
        stuck = good.find(0)
        if stuck < 0:
            return self._result(None, [], None)
        text = f"stuck: no fault-free path from here ends well ({good.count(0)} such states)"
        return self._result(text, self._trace(stuck), self._quiet(self.states[stuck]))

    def _quiet(self, state: S) -> S:
        """Goes on from a stuck state without faults as long as that is possible, for a readable end."""
        seen = {state}
        todo = [state]
        for here in todo:
            targets = [target for _, target, helps, _ in self.model.edges(here) if helps]
            if not targets:
                return here
            fresh = [target for target in dict.fromkeys(targets) if target not in seen]
            seen.update(fresh)
            todo += fresh
            if len(todo) > 5_000:
                break
        return todo[-1]

    def _trace(self, at: int) -> list[str]:
        labels = []
        while at > 0:
            labels.append(self.labels[at])
            at = self.parents[at]
        return labels[::-1]

    def _result(self, violation: str | None, trace: list[str], end: S | None) -> Result:
        seconds = time.process_time() - self.began
        said = "" if end is None else self.model.describe(end)
        return Result(len(self.states), self.edges, seconds, violation, trace, said)
