"""What a process can do next, given itself and the log of its task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Final

import msgspec

from mesh.log.append import Appended
from mesh.log.ops import Ack, Append, Drop, Message, Nak, Perform, Publish, Read, ReadAfter, ReadFirst, Tell
from schemas import error as codes
from schemas import task
from schemas.command import DeadLetter, Ended, Fired, Run
from schemas.envelope import Head
from services.router.rules import Order
from tests.model import invariants
from tests.model.processes import DRAIN, FRESH, TOLD, Dies, Hangs, InQueue, Look, Site, Tick, Verb, route
from tests.model.registers import Registers
from tests.model.scenario import Scenario
from tests.model.tables import Answer, Done, Process


class Budget(IntEnum):
    """The places of the budget in a state: what may still happen, what has, and the newest app version."""

    CRASHES = 0
    PAUSES = 1
    LOST_ACKS = 2
    DRAINS = 3
    PURGES = 4
    BLANKS = 5
    USED = 6
    VERSION = 7

    @staticmethod
    def said(budget: tuple[int, ...]) -> str:
        return ", ".join(f"{Budget(i).name.lower()} {left}" for i, left in enumerate(budget))


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a process; `process` and `log` are the numbers afterwards, -1 for gone and for unchanged."""

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
    takeovers: int = 0
    violation: str | None = None
    when: Callable[[tuple[int, ...], Registers], bool] | None = None
