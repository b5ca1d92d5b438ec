"""The tool runner's deliveries: from a call to its result in the log."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct

from mesh.agents.app import Mesh
from mesh.agents.attempts import Attempt, Made
from mesh.agents.guard import Threads
from mesh.agents.tools import Tool
from mesh.bus import LiveMessage
from mesh.errors import ArtifactMissing, BusUnavailable, InvalidInput, TooLarge
from mesh.log import dead_letters
from mesh.log.driver import Driver, entry_of
from mesh.log.head import Entry, View, Writer
from mesh.log.large import restore
from mesh.log.ops import Drop, Nak, Read, Verdict
from mesh.log.request import is_requested
from mesh.registry import FreshRegistry, strange_delay_s
from mesh.service import ServiceConfig
from mesh.worker import Held
from mesh.worker.turns import Turns
from schemas import error as codes
from schemas.command import Call
from schemas.envelope import VERSION, Head
from schemas.error import Error
from schemas.ids import is_task_id
from schemas.signal import Broadcast
from schemas.step import Result, StepFailed
from schemas.unreadable import UNREADABLE
from services.tool_runner import rules
from services.tool_runner.progress import Progress
from services.tool_runner.reading import TaskLogs
from services.tool_runner.rules import Begun, Delivered, Runner, Standing
from services.tool_runner.running import Halt, Room, Running

MAX_STRANGE: Final = 50
log = structlog.get_logger("mesh.tools")
_call = msgspec.json.Decoder(Call)
_broadcast = msgspec.json.Decoder(Broadcast)


class _Start(Struct, frozen=True):
    """A start that stands in the log; `asked_at` is when its append was asked for, on this machine's clock."""

    begun: Begun
    asked_at: float

    @property
    def view(self) -> View:
        return self.begun.view

    @property
    def attempt(self) -> int:
        return self.begun.attempt


class Handlers:
    """Makes the calls of one app's tools."""

    def __init__(self, driver: Driver, writer: Writer, app: Mesh, config: ServiceConfig, worker: str) -> None:
        self._driver = driver
        self._app = app
        self._version = config.version
        self._registry = FreshRegistry(driver.bus, driver.names)
        self._secrets = config.secrets
        self._observer = config.observer
        self._fresh_s = config.settings.ack_wait_s * 2 / 3
        self._runner = Runner(names=driver.names, writer=writer, worker=worker, max_starts=config.settings.max_attempts)
        self._rooms = {
            tool.name: Room(tool.policy.max_concurrent) for tool in app.tools.values() if tool.policy.max_concurrent
        }
        self._slots = config.settings.slots
        self._turns = Turns()
        self._logs = TaskLogs(driver.answer)
        self._draining = False
        self._leaving = False
        self.threads = Threads()
        self.running: dict[int, Running] = {}

    async def call(self, held: Held) -> Verdict:
        """One message on `mesh.call.<pool>`."""
        try:
            call = _call.decode(held.delivery.data)
        except UNREADABLE as error:
            return await self._bury(held, f"this call cannot be read: {error}")
        if not is_task_id(call.task):
            return await self._bury(held, f"'{call.task}' is no task id")
        delivered = held.delivery.delivered
        if call.v > VERSION or (delivered < MAX_STRANGE and await self._is_strange(call)):
            return Nak(strange_delay_s(delivered))
        running = self.running[id(held)] = Running(Delivered(call, held.delivery.seq, held.delivery.delivered))

        async def tick() -> None:
            await self._tick(held, running)

        held.on_tick = tick
        try:
            with self._logs.keeping(call.task):
                return await self._in_room(running)
        finally:
            del self.running[id(held)]
            held.on_tick = held.delivery.in_progress

    def cancel(self, message: LiveMessage) -> None:
        """One broadcast on `mesh.cancel.<root>`."""
        with suppress(*UNREADABLE):
            stop = _broadcast.decode(message.data)
            for running in list(self.running.values()):
                if running.job.call.task == stop.task:
                    running.stop(Halt.CANCEL)

    def drain(self) -> None:
        """Hands back what has not begun; what runs may come to its end."""
        self._draining = True
        for running in self.running.values():
            if running.waits:
                running.stop(Halt.LEAVE)

    def leave(self) -> None:
        """Cuts off what runs: it is handed back, or its outcome is recorded as unknown."""
        self._leaving = True
        self.drain()
        for running in list(self.running.values()):
            running.stop(Halt.LEAVE)

    async def _in_room(self, running: Running) -> Verdict:
        """Waits for a place only while half of the slots are free, so that no tool keeps the calls of others away."""
        room = self._rooms.get(running.job.call.tool)
        if room is None:
            return await self._make(running)
        if room.full and (self._draining or len(self.running) > self._slots // 2):
            return Nak(room.send_away())
        entered = await running.enter(room)
        try:
            # One that was cancelled meanwhile needs no place: it is never begun, and its delivery comes to an end.
            return Nak() if running.halt is Halt.LEAVE else await self._make(running)
        finally:
            if entered:
                room.leave()

    async def _is_strange(self, call: Call) -> bool:
        """Whether another version of the app may have this tool: one is at work, so a deploy is under way."""
        if call.tool in self._app.tools:
            return False
        return bool((await self._registry.look()).versions(self._app.pool) - {self._version})

    async def _make(self, running: Running) -> Verdict:
        if self._leaving:
            return Nak()
        begun = await self._begin(running.job, 0)
        return await self._attempts(running, begun) if isinstance(begun, _Start) else begun

    async def _begin(self, job: Delivered, retry_of: int) -> _Start | Verdict:
        """Calls of one task take turns with the log: side by side each append would make all others fail."""
        async with self._turns.turn(job.call.task):
            asked_at = time.monotonic()
            seen = self._logs.seen(job.call.task)
            begun = await self._logs.drive(rules.begin(self._runner, job, retry_of=retry_of, seen=seen))
        return _Start(begun, asked_at) if isinstance(begun, Begun) else begun

    async def _attempts(self, running: Running, start: _Start) -> Verdict:
        """Attempts by the tool's policy: each has a start of its own in the log."""
        job = running.job
        tool = self._app.tools.get(job.call.tool)
        if tool is None:
            missing = StepFailed(step=job.call.step, attempt=start.attempt, error=_no_tool(self._app, job.call.tool))
            return await self._finish(job, start.view, missing)
        while True:
            running.begun = start.view
            progress = Progress(self._runner, self._driver, self._turns, job.call.step, start.view)
            try:
                made = await self._attempt(running, tool, start, progress)
            finally:
                await progress.aclose()
            if made is None or running.halt is Halt.LOST:
                return Drop()
            if made.pause_s is not None and not running.halt:
                log.info("tool is tried again", tool=tool.name, task=job.call.task, after_s=made.pause_s)
                await running.rest(made.pause_s)
            unfinished = made.cut or made.pause_s is not None
            if unfinished and running.halt is Halt.LEAVE and tool.policy.idempotent:
                return Nak()
            if unfinished and running.halt is Halt.CANCEL:
                await is_requested(lambda: self._is_canceled(job.call.task))
            if made.pause_s is None or running.halt:
                return await self._finish(job, progress.view, made.result)
            again = await self._begin(job, start.attempt)
            if not isinstance(again, _Start):
                return again
            start = again

    async def _attempt(self, running: Running, tool: Tool[Any, Any], start: _Start, progress: Progress) -> Made | None:
        """One attempt; None if somebody else has gone on with the call."""
        call = running.job.call
        try:
            call = await restore(call, self._driver.objects)
        except (InvalidInput, TooLarge, ArtifactMissing) as error:
            return Made(StepFailed(step=call.step, attempt=start.attempt, error=error.to_error()))
        stale = time.monotonic() - start.asked_at >= self._fresh_s
        if stale and await self._logs.drive(rules.look(running.job, start.view)) is not Standing.OURS:
            return None
        if self._observer is not None:
            self._observer.before("perform", f"{self._driver.names.task(call.task)}.{start.attempt}.{call.step}")
        attempt = Attempt(
            tool, task=call.task, step=call.step, number=start.attempt, lost=start.begun.lost, timeout_s=call.timeout_s
        )
        running.begin(attempt)
        return await attempt.make(call.arguments, attempt.context(progress.tell, self._secrets), self.threads)

    async def _finish(self, job: Delivered, view: View, result: Result) -> Verdict:
        async with self._turns.turn(job.call.task):
            view = self._logs.newer(view, job.call.step)
            return await self._logs.drive(rules.finish(self._runner, job, view, result))

    async def _tick(self, held: Held, running: Running) -> None:
        """T4: keeps the delivery alive, and stops the tool if the log says so.

        A runner that was frozen looks first: an in-progress of an old holder would keep a dead one's lease alive.
        """
        names, task = self._driver.names, running.job.call.task
        try:
            if time.monotonic() - running.ticked_at >= self._fresh_s and await self._is_lost(running):
                running.stop(Halt.LOST)
                return
            running.ticked_at = time.monotonic()
            await held.delivery.in_progress()
            newest = await self._driver.bus.newest(names.tasks, names.task(task))
        except BusUnavailable:
            return
        if newest is not None and _is_over(entry_of(newest).commit.head):
            running.stop(Halt.CANCEL)

    async def _is_canceled(self, task: str) -> bool:
        entry: Entry | None = await self._driver.answer(Read(task))
        return entry is None or _is_over(entry.commit.head)

    async def _is_lost(self, running: Running) -> bool:
        begun = running.begun
        return begun is not None and await self._logs.drive(rules.look(running.job, begun)) is Standing.LOST

    async def _bury(self, held: Held, why: str) -> Verdict:
        error = Error(code=codes.INVALID_INPUT, message=why)
        return await self._driver.bury(dead_letters.INVALID_CALL, dead_letters.NO_TASK, error, held.delivery)


def _is_over(head: Head) -> bool:
    """Whether nobody wants the result of a call any more."""
    return head.phase == "ended" or head.cancel


def _no_tool(app: Mesh, name: str) -> Error:
    return Error(
        code=codes.TOOL_FAILED,
        message=f"app '{app.name}' on this runner has no tool '{name}'",
        hint=f"it has: {', '.join(sorted(app.tools)) or 'none'}",
    )
