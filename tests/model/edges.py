"""One step of a process as an edge between states, and the budget of faults that it draws on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from tests.model.registers import Registers


class Budget(IntEnum):
    """The places of the budget in a state: what may still happen, what has, and the newest app version."""

    CRASHES = 0
    PAUSES = 1
    LOST_ACKS = 2
    DRAINS = 3
    PURGES = 4
    BLANKS = 5
    LAPSES = 6
    CUTS = 7
    USED = 8
    VERSION = 9

    @staticmethod
    def said(budget: tuple[int, ...]) -> str:
        return ", ".join(f"{Budget(i).name.lower()} {left}" for i, left in enumerate(budget))


State = tuple[
    tuple[int, ...], tuple[int, ...], tuple[tuple[int, ...], ...], tuple[int, ...], int, tuple[int, ...]
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a process; `process` and `log` are the numbers afterwards, -1 for gone and for unchanged.

    `gives_up` is a tool call that is declared over by somebody who did not make it; `blames` is what only a fault can
    cause.
    """

    label: str
    process: int = -1
    log: int = -1
    cost: int = -1
    used: int = 0
    helps: bool = True
    acks: bool = False
    naks: bool = False
    publishes: tuple[int, ...] = ()
    timers: tuple[int, ...] = ()
    facts: int = 0
    needs: int = 0
    once: int = 0
    owes: int = 0
    gives_back: tuple[int, int] | None = None
    takeovers: int = 0
    gives_up: str = ""
    blames: str = ""
    violation: str | None = None
    when: Callable[[State, Registers], bool] | None = None
