"""The tool runner's deliveries: from a call to its result in the log."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any, Final

import msgspec
import structlog

from mesh.agents.app import Mesh
from mesh.agents.guard import Raised, Threads, error_of, guard
from mesh.agents.tool_context import ToolContext
from mesh.agents.tools import Tool
from mesh.agents.values import as_recorded
from mesh.bus import LiveMessage
from mesh.errors import ArtifactMissing, BusUnavailable, InvalidInput, MeshError, TooLarge
from mesh.log.driver import Driver, entry_of
from mesh.log.head import Writer, view_of
from mesh.log.large import restore
from mesh.log.ops import Ack, Message, Nak, Publish, Verdict
from mesh.service import ServiceConfig
from mesh.worker import Held
from mesh.worker.turns import Turns
from schemas import error as codes
from schemas.command import Call, DeadLetter
from schemas.envelope import VERSION
from schemas.error import Error
from schemas.instant import rfc3339
from schemas.signal import Broadcast
from schemas.step import StepCompleted, StepFailed
from services.tool_runner import rules
from services.tool_runner.rules import Begun, Delivered, Result, Runner

UNKNOWN_VERSION_DELAY_S: Final = 5.0
MAX_BACKOFF_S: Final = 60.0
log = structlog.get_logger("mesh.tools")
_call = msgspec.json.Decoder(Call)
_broadcast = msgspec.json.Decoder(Broadcast)


class Running:
    """One call while its tool runs: the one record of it."""

    def __init__(self, job: Delivered) -> None:
        self.job = job
        self.effect: asyncio.Task[Any] | None = None
        self.stopped = False

    def stop(self) -> None:
        """Stops the tool: its task was asked to stop, or has ended."""
        self.stopped = True
        if self.effect is not None:
            self.effect.cancel()


class Handlers:
    """Makes the calls of one app's tools."""

    def __init__(self, driver: Driver, writer: Writer, app: Mesh, config: ServiceConfig, worker: str) -> None:
        self._driver = driver
        self._app = app
        self._secrets = config.secrets
        self._runner = Runner(names=driver.names, writer=writer, worker=worker, max_starts=config.settings.max_attempts)
        self._limits = {
            tool.name: asyncio.Semaphore(tool.policy.max_concurrent)
            for tool in app.tools.values()
            if tool.policy.max_concurrent
        }
        self._turns = Turns()
        self.threads = Threads()
        self.running: dict[int, Running] = {}

    async def call(self, held: Held) -> Verdict:
        """One message on `mesh.call.<pool>`."""
        try:
            call = _call.decode(held.delivery.data)
        except (msgspec.DecodeError, RecursionError) as error:
            return await self._bury(held, f"this call cannot be read: {error}")
        if call.v > VERSION:
            return Nak(UNKNOWN_VERSION_DELAY_S)
        limit: AbstractAsyncContextManager[Any] = self._limits.get(call.tool) or nullcontext()
        async with limit:
            return await self._make(held, Delivered(call, held.delivery.seq, held.delivery.delivered))

    def cancel(self, message: LiveMessage) -> None:
        """One broadcast on `mesh.cancel.<root>`."""
        with suppress(msgspec.DecodeError):
            stop = _broadcast.decode(message.data)
            for running in list(self.running.values()):
                if running.job.call.task == stop.task:
                    running.stop()

    async def _make(self, held: Held, job: Delivered) -> Verdict:
        begun = await self._begin(job, 0)
        if not isinstance(begun, Begun):
            return begun
        running = self.running[id(held)] = Running(job)

        async def tick() -> None:
            await self._tick(held, running)

        held.on_tick = tick
        try:
            return await self._attempts(running, begun)
        finally:
            del self.running[id(held)]

    async def _begin(self, job: Delivered, retry_of: int) -> Begun | Verdict:
        """Calls of one task take turns with the log: side by side each append would make all others fail."""
        async with self._turns.turn(job.call.task):
            return await self._driver.drive(rules.begin(self._runner, job, retry_of=retry_of))

    async def _attempts(self, running: Running, begun: Begun) -> Verdict:
        """Attempts by the tool's policy: each has a start of its own in the log."""
        job = running.job
        tool = self._app.tools.get(job.call.tool)
        while True:
            result, pause_s = await self._attempt(running, tool, begun.attempt)
            if pause_s is None or tool is None or running.stopped:
                async with self._turns.turn(job.call.task):
                    return await self._driver.drive(rules.finish(self._runner, job, begun.view, result))
            log.info("tool is tried again", tool=tool.name, task=job.call.task, attempt=begun.attempt, after_s=pause_s)
            await asyncio.sleep(pause_s)
            again = await self._begin(job, begun.attempt)
            if not isinstance(again, Begun):
                return again
            begun = again

    async def _attempt(
        self, running: Running, tool: Tool[Any, Any] | None, attempt: int
    ) -> tuple[Result, float | None]:
        """One attempt: its result, and after how long to try again if the policy says so."""
        call = running.job.call
        if tool is None:
            return StepFailed(step=call.step, attempt=attempt, error=_no_tool(self._app, call.tool)), None
        try:
            value = await self._perform(running, tool, attempt)
            if not isinstance(value, Raised):
                output = as_recorded(value, tool.output_type, f"the result of tool '{tool.name}'")
                return StepCompleted(step=call.step, attempt=attempt, output=output), None
        except (InvalidInput, TooLarge, ArtifactMissing) as error:
            return StepFailed(step=call.step, attempt=attempt, error=error.to_error()), None
        except TimeoutError:
            late = StepFailed(step=call.step, attempt=attempt, error=_timed_out(tool, call))
            return late, self._pause(tool, attempt, None)
        failed = StepFailed(step=call.step, attempt=attempt, error=error_of(value.error, codes.TOOL_FAILED))
        return failed, self._pause(tool, attempt, value.error)

    async def _perform(self, running: Running, tool: Tool[Any, Any], attempt: int) -> Any:
        """The tool's value, or what it raised; raises TimeoutError, InvalidInput, ArtifactMissing."""
        call = await restore(running.job.call, self._driver.objects)
        arguments = tool.read(call.arguments)
        if tool.takes_context:
            arguments[tool.takes_context] = self._context(running, attempt)
        if running.stopped:
            return Raised(RuntimeError("the task was asked to stop"))
        running.effect = asyncio.create_task(guard(tool.function, (), arguments, self.threads))
        try:
            async with asyncio.timeout(call.timeout_s or tool.policy.timeout_s):
                await asyncio.wait((running.effect,))
        finally:
            if not running.effect.done():
                running.effect.cancel()
                await asyncio.wait((running.effect,))
        if running.effect.cancelled():
            return Raised(RuntimeError("the task was asked to stop"))
        return running.effect.result()

    def _context(self, running: Running, attempt: int) -> ToolContext:
        async def progress(message: str, fraction: float | None) -> None:
            log.debug("tool progress", task=running.job.call.task, message=message, fraction=fraction)

        return ToolContext(
            task=running.job.call.task, step=running.job.call.step, attempt=attempt,
            cancelled=lambda: running.stopped, progress=progress, secrets=self._secrets,
        )  # fmt: skip

    def _pause(self, tool: Tool[Any, Any], attempt: int, error: BaseException | None) -> float | None:
        """How long to wait before the next attempt; None if there is none."""
        if attempt >= tool.policy.max_attempts or (isinstance(error, MeshError) and not error.retryable):
            return None
        wanted = getattr(error, "retry_after_s", None)
        backoff_s = tool.policy.backoff_s * 2 ** (attempt - 1)
        return float(min(MAX_BACKOFF_S, max(backoff_s, wanted or 0.0)))

    async def _tick(self, held: Held, running: Running) -> None:
        """T4: keeps the delivery alive, and stops the tool if the log says so."""
        await held.delivery.in_progress()
        names, task = self._driver.names, running.job.call.task
        try:
            newest = await self._driver.bus.newest(names.tasks, names.task(task))
        except BusUnavailable:
            return
        if newest is not None:
            head = view_of(entry_of(newest)).head
            if head.phase == "ended" or head.cancel:
                running.stop()

    async def _bury(self, held: Held, why: str) -> Verdict:
        delivery = held.delivery
        letter = DeadLetter(
            v=VERSION, task="-", error=Error(code=codes.INVALID_INPUT, message=why), subject=delivery.subject,
            at=rfc3339(delivery.at), body=delivery.data.decode(errors="replace"),
        )  # fmt: skip
        log.warning("dead letter", kind="invalid_call", error=why)
        subject = self._driver.names.dead("invalid_call", "-")
        await self._driver.answer(Publish((Message(subject=subject, body=letter, id=f"dead:{delivery.seq}"),)))
        return Ack()


def _no_tool(app: Mesh, name: str) -> Error:
    return Error(
        code=codes.TOOL_FAILED,
        message=f"app '{app.name}' on this runner has no tool '{name}'",
        hint=f"it has: {', '.join(sorted(app.tools)) or 'none'}",
    )


def _timed_out(tool: Tool[Any, Any], call: Call) -> Error:
    limit_s = call.timeout_s or tool.policy.timeout_s
    return Error(code=codes.TOOL_TIMEOUT, message=f"tool '{tool.name}' did not end within {limit_s:g} s")
