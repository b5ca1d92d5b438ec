"""One attempt of a tool call, as a tool runner makes it, and the test kit: from recorded arguments to a result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from msgspec import Struct

from mesh.agents.guard import Raised, Threads, error_of, guard
from mesh.agents.performing import Performing, performing
from mesh.agents.tool_context import ToolContext
from mesh.agents.tools import Tool, ToolPolicy
from mesh.agents.values import as_recorded
from mesh.errors import InvalidInput, MeshError, TooLarge
from mesh.log.steps import unknown_outcome
from schemas import error as codes
from schemas.error import Error
from schemas.step import Result, StepCompleted, StepFailed

STUBBORN_S: Final = 5.0
MAX_BACKOFF_S: Final = 60.0
MAX_DOUBLINGS: Final = 30


class Made(Struct, frozen=True):
    """What came of an attempt, and after how long its policy wants another.

    `cut` says that it was halted from outside before it had come to an end.
    """

    result: Result
    pause_s: float | None = None
    cut: bool = False


class Attempt:
    """A tool while it runs; whoever made it may halt it.

    `lost` of the attempts before it are none that the tool's policy counts: nobody knows how they ended.
    """

    def __init__(
        self, tool: Tool[Any, Any], *, task: str, step: str, number: int, lost: int = 0, timeout_s: float | None = None
    ) -> None:
        self.over = False
        self._tool = tool
        self._task = task
        self._step = step
        self._number = number
        self._counted = number - lost
        self._timeout_s = timeout_s or tool.policy.timeout_s
        self._halted = asyncio.Event()

    def halt(self) -> None:
        """Cuts the tool off; it is cancelled once, and may clean up."""
        self.over = True
        self._halted.set()

    def context(
        self, progress: Callable[[str, float | None], None], secrets: Callable[[str], str | None]
    ) -> ToolContext:
        """What the tool receives if it asks for it; `progress` is called in the loop of whoever calls this."""
        told = _Told(progress, asyncio.get_running_loop(), lambda: self.over)
        return ToolContext(
            task=self._task, step=self._step, attempt=self._number, cancelled=lambda: self.over, progress=told.tell,
            secrets=secrets,
        )  # fmt: skip

    async def make(self, arguments: dict[str, Any], context: ToolContext, threads: Threads) -> Made:
        """Calls the tool; whatever it does becomes a result."""
        tool = self._tool
        try:
            typed = tool.read(arguments)
        except InvalidInput as error:
            return self._failed(error.to_error())
        if tool.takes_context:
            typed[tool.takes_context] = context
        if self._halted.is_set():
            not_begun = Error(code=codes.TOOL_FAILED, message=f"tool '{tool.name}' was stopped before it began")
            return self._failed(not_begun, cut=True)
        value = await self._perform(typed, threads)
        if value is None:
            return self._cut_off() if self._halted.is_set() else self._timed_out()
        if isinstance(value.outcome, Raised):
            failure = value.outcome.error
            pause_s = next_pause_s(tool.policy, self._counted, failure)
            return self._failed(error_of(failure, codes.TOOL_FAILED), pause_s=pause_s)
        try:
            output = as_recorded(value.outcome, tool.output_type, f"the result of tool '{tool.name}'")
        except (InvalidInput, TooLarge) as error:
            return self._failed(error.to_error())
        return Made(StepCompleted(step=self._step, attempt=self._number, output=output))

    async def _perform(self, arguments: dict[str, Any], threads: Threads) -> _Ended | None:
        """What the tool gave or raised; None if it was halted or ran out of time."""
        here = Performing(task=self._task, step=self._step, idempotent=self._tool.policy.idempotent)
        with performing(here):
            effect = asyncio.create_task(guard(self._tool.function, (), arguments, threads))
        halted = asyncio.create_task(self._halted.wait())
        in_time = False
        try:
            await asyncio.wait((effect, halted), timeout=self._timeout_s, return_when=asyncio.FIRST_COMPLETED)
            in_time = effect.done()
        finally:
            self.over = True
            halted.cancel()
            await _stop(effect, threads)
        if not effect.done():
            return None
        if effect.cancelled():
            return _Ended(Raised(RuntimeError("the tool cancelled itself"))) if in_time else None
        outcome = effect.result()
        # One that was halted and came to its end all the same has a result; one that then failed may have been cut.
        if in_time or (self._halted.is_set() and not isinstance(outcome, Raised)):
            return _Ended(outcome)
        return None

    def _failed(self, error: Error, *, pause_s: float | None = None, cut: bool = False) -> Made:
        return Made(StepFailed(step=self._step, attempt=self._number, error=error), pause_s, cut)

    def _cut_off(self) -> Made:
        if self._tool.policy.idempotent:
            message = f"tool '{self._tool.name}' was stopped before it came to a result"
            return self._failed(Error(code=codes.TOOL_FAILED, message=message), cut=True)
        return self._failed(
            unknown_outcome(f"tool '{self._tool.name}' was cut off before it came to a result"), cut=True
        )

    def _timed_out(self) -> Made:
        """A tool that must not be repeated may have had its effect: its policy's further attempts do not apply."""
        policy = self._tool.policy
        error = Error(
            code=codes.TOOL_TIMEOUT,
            message=f"tool '{self._tool.name}' did not end within {self._timeout_s:g} s",
            hint=None if policy.idempotent else "it may have had its effect all the same",
        )
        return self._failed(error, pause_s=next_pause_s(policy, self._counted, None) if policy.idempotent else None)


class _Ended(Struct, frozen=True):
    outcome: Any


class _Told:
    """Progress from any thread, in the loop: only the newest, however fast a thread tells it."""

    def __init__(
        self, tell: Callable[[str, float | None], None], loop: asyncio.AbstractEventLoop, over: Callable[[], bool]
    ) -> None:
        self._tell = tell
        self._loop = loop
        self._over = over
        self._newest: tuple[str, float | None] = ("", None)
        self._due = False

    def tell(self, message: str, fraction: float | None) -> None:
        # What is newest is set before it is looked whether it is due, and read after that is unset: none is missed.
        self._newest = (message, fraction)
        if not self._due:
            self._due = True
            with suppress(RuntimeError):  # the loop has closed: nobody waits for this thread any more
                self._loop.call_soon_threadsafe(self._pass_on)

    def _pass_on(self) -> None:
        self._due = False
        if not self._over():
            self._tell(*self._newest)


def next_pause_s(policy: ToolPolicy, attempt: int, error: BaseException | None) -> float | None:
    """How long to wait before the next attempt; None if there is none.

    An exception may carry `retry_after_s`; who asks for more than a minute has refused.
    """
    if attempt >= policy.max_attempts or (isinstance(error, MeshError) and not error.retryable):
        return None
    wanted = getattr(error, "retry_after_s", None)
    asked_s = wanted if isinstance(wanted, int | float) and wanted > 0 else 0.0
    if asked_s > MAX_BACKOFF_S:
        return None
    return max(min(MAX_BACKOFF_S, policy.backoff_s * 2.0 ** min(attempt - 1, MAX_DOUBLINGS)), float(asked_s))


async def _stop(effect: asyncio.Task[Any], threads: Threads) -> None:
    """Cancels once, so that its clean-up is not cut in turn; what does not end is left behind, and counted."""
    if effect.done():
        return
    effect.cancel()
    await asyncio.wait((effect,), timeout=STUBBORN_S)
    if not effect.done():
        threads.abandoned += 1
        effect.add_done_callback(lambda _: _came_back(threads))


def _came_back(threads: Threads) -> None:
    threads.abandoned -= 1
