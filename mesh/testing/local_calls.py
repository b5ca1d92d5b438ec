"""Tool calls that are made without a tool runner: for handlers that are called without a broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mesh.agents.attempts import Attempt, Made
from mesh.agents.guard import Threads
from mesh.agents.tools import Tool
from schemas.step import StepProgress, StepRequested


class LocalCalls:
    """Makes single attempts of calls of one app's tools, as a runner does."""

    def __init__(self, tools: Callable[[str], Tool[Any, Any]], secrets: Callable[[str], str | None]) -> None:
        self.tools = tools
        self._secrets = secrets
        self._threads = Threads()
        self.timeouts: dict[str, float | None] = {}

    async def make(
        self, task: str, request: StepRequested, number: int, lost: int, tell: Callable[[StepProgress], None]
    ) -> Made:
        """One attempt of the requested call; `lost` before it were those of a log that is replayed."""

        def progress(message: str, fraction: float | None) -> None:
            tell(StepProgress(step=request.step, message=message, fraction=fraction))

        timeout_s = self.timeouts.get(request.step)
        attempt = Attempt(
            self.tools(request.name), task=task, step=request.step, number=number, lost=lost, timeout_s=timeout_s
        )
        return await attempt.make(request.input or {}, attempt.context(progress, self._secrets), self._threads)
