"""What a recorder is asked for by handlers that only make steps; where these go, a test says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mesh.agents.deltas import Source, Teller
from mesh.log.steps import Step
from mesh.testing.objects import MemoryObjects
from schemas.step import StepCompleted, StepFailed


class StepsOnly:
    """A recorder without models, tools, or a past; nobody fences it."""

    past = None

    def __init__(self) -> None:
        self.stopping = False
        self.cancelled = False
        self.objects = MemoryObjects()

    async def lease(self) -> None:
        """The only worker there is."""

    @contextmanager
    def performing(self, step: str) -> Iterator[None]:
        """Nobody looks."""
        yield

    async def call(self, step: Step, timeout_s: float | None, *, again: bool) -> None:
        raise AssertionError("there is no tool")

    async def wait(self, step: str) -> StepCompleted | StepFailed:
        raise AssertionError("nobody else performs a step")

    async def tell(self, text: str, offset: int) -> None:
        """Nobody listens."""

    def teller(self, source: Source) -> Teller:
        raise AssertionError("there is no model")

    def attempt(self, step: str) -> int:
        return 1

    def soon(self) -> None:
        """It rides with the next commit."""
