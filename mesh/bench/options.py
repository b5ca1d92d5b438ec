"""What to measure, and how much of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

WORKLOADS: Final = ("broker", "w1", "w2", "w2h", "w3", "w4", "w5", "w6", "w7")


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """How much of everything one run does."""

    warm_up: int = 500
    tasks: int = 6_000
    flushed_tasks: int = 3_000
    in_flight: int = 200
    latencies: int = 500
    turns: int = 3_000
    turns_in_flight: int = 100
    core_messages: int = 200_000
    appends: int = 20_000
    appends_in_turn: int = 2_000
    pieces: int = 2_000
    streams: int = 100
    pieces_per_stream: int = 200
    paced_pieces: int = 1_000
    cancels: int = 200
    takeovers: int = 20
    takeovers_by_time: int = 5
    log_events: int = 10_000
    other_tasks: int = 1_000
    reads: int = 5
    size: int = 20_000
    questions: int = 300


QUICK: Final = Amounts(
    warm_up=5,
    tasks=40,
    flushed_tasks=20,
    in_flight=10,
    latencies=10,
    turns=20,
    turns_in_flight=10,
    core_messages=500,
    appends=200,
    appends_in_turn=20,
    pieces=100,
    streams=5,
    pieces_per_stream=20,
    paced_pieces=20,
    cancels=3,
    takeovers=2,
    takeovers_by_time=1,
    log_events=40,
    other_tasks=10,
    reads=2,
    size=20,
    questions=3,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """Which workloads, how much, and on which disk.

    Stores are temporary folders below `store`, or below the system's own temporary folder; `quick` is a smoke test
    whose figures mean nothing. `size` is how many tasks W7 makes. `progress` is told what is measured next.
    """

    only: tuple[str, ...] = WORKLOADS
    quick: bool = False
    size: int | None = None
    store: Path | None = None
    progress: Callable[[str], None] = lambda what: None

    @property
    def amounts(self) -> Amounts:
        amounts = QUICK if self.quick else Amounts()
        return amounts if self.size is None else replace(amounts, size=self.size)
