"""What a context works on and where it records: a task's log, or a list in a unit test."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from msgspec import Struct

from mesh.agents.deltas import Source, Teller
from mesh.agents.emits import Emits
from mesh.agents.history import Past
from mesh.log import large
from mesh.log.steps import Step
from schemas.envelope import Event
from schemas.step import StepCompleted
from schemas.step import StepFailed as StepFailedEvent


class TaskInfo(Struct, frozen=True, kw_only=True):
    """Which task a handler works on; `attempt` counts the claims of this task."""

    id: str
    agent: str
    context_id: str
    owner: str = "local/anonymous"
    attempt: int = 1
    metadata: dict[str, Any] | None = None


class Recorder(Protocol):
    """Where a context records: a task's log, or a list in a unit test."""

    emits: Emits

    @property
    def objects(self) -> large.Objects:
        """Where bodies are kept by digest."""
        ...

    @property
    def past(self) -> Past | None:
        """What was said before the task in its conversation; None where there is no conversation."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether the handler was told to stop, for whatever reason."""
        ...

    @property
    def cancelled(self) -> bool:
        """Whether it was because the task was canceled."""
        ...

    async def commit(self, events: tuple[Event, ...]) -> str:
        """Appends what was emitted and then these events; returns their time."""
        ...

    async def lease(self) -> None:
        """Makes sure that the task is still ours before an effect."""
        ...

    def performing(self, step: str) -> AbstractContextManager[None]:
        """An effect is made in this block; crash tests look at it, and a task is not suspended meanwhile."""
        ...

    async def call(self, step: Step, timeout_s: float | None, *, again: bool) -> None:
        """Publishes a tool call that the log holds as requested; `again` if it may have been published before."""
        ...

    async def wait(self, step: str) -> StepCompleted | StepFailedEvent:
        """Waits until the log holds the end of a step that somebody else performs."""
        ...

    async def tell(self, text: str, offset: int) -> None:
        """Sends text ahead of the log."""
        ...

    def teller(self, source: Source) -> Teller:
        """Sends the text of a model step ahead of the log."""
        ...

    def attempt(self, step: str) -> int:
        """The number of the execution of a model step that begins now; later ones have higher numbers."""
        ...

    def soon(self) -> None:
        """What was emitted must be committed soon."""
        ...
