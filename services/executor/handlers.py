"""The executor's deliveries: from a run command to an execution."""

from __future__ import annotations

from typing import Final

import msgspec
import structlog

from mesh.agents.durable import Lease
from mesh.bus import LiveMessage
from mesh.log import dead_letters
from mesh.log.claim import Claimant, Claimed, claim, decline
from mesh.log.driver import Driver
from mesh.log.head import Entry, Writer
from mesh.log.ops import Drop, Message, Nak, Publish, Verdict
from mesh.registry import FreshRegistry, strange_delay_s
from mesh.settings import Settings
from mesh.worker import Held
from schemas import command as commands
from schemas import envelope
from schemas import error as codes
from schemas.command import Fired, Run
from schemas.envelope import VERSION
from schemas.error import Error
from schemas.ids import is_task_id
from schemas.signal import Broadcast, Told
from schemas.unreadable import UNREADABLE
from services.executor.execution import Execution, Served
from services.executor.stopping import Stop

MAX_DELIVERIES: Final = 50
log = structlog.get_logger("mesh.executor")
_run = msgspec.json.Decoder(Run)
_broadcast = msgspec.json.Decoder(Broadcast)
_told = msgspec.json.Decoder(Told)


class Handlers:
    """Claims what is run on the app's pool and carries it."""

    def __init__(self, driver: Driver, writer: Writer, served: Served, settings: Settings, worker: str) -> None:
        self._driver = driver
        self._writer = writer
        self._served = served
        self._settings = settings
        self._who = Claimant(
            worker=worker, app_version=served.version, definitions=served.definitions,
            max_attempts=settings.max_attempts,
        )  # fmt: skip
        self._registry = FreshRegistry(driver.bus, driver.names)
        self.running: dict[str, Execution] = {}
        self._releasing = False

    async def run(self, held: Held) -> Verdict:
        """One message on `mesh.run.<pool>`."""
        try:
            order = _run.decode(held.delivery.data)
        except UNREADABLE as error:
            return await self._bury(held, f"this run command cannot be read: {error}")
        if not is_task_id(order.task):
            return await self._bury(held, "this run command names no task")
        if order.v > VERSION or (not order.head.cancel and await self._is_strange(order)):
            return await self._not_mine(held, order)
        if held.delivery.delivered > MAX_DELIVERIES and order.head.phase == "runnable":
            await self._undeliverable(order)
        if self._leaving():
            return Nak()
        own = self.running.get(order.task)
        if own is not None and own.covers(held.delivery.seq):
            return await own.adopt(held)
        lease = Lease(self._settings.ack_wait_s * 2 / 3)
        seq, delivered = held.delivery.seq, held.delivery.delivered
        claimed = await self._driver.drive(claim(self._driver.names, self._writer, self._who, order, seq, delivered))
        if not isinstance(claimed, Claimed):
            return claimed
        execution = Execution(self._served, self._driver, claimed, self._writer, held, lease, bytes(order.opening))
        self.running[order.task] = execution
        if self._leaving():
            execution.stopping.stop(Stop.RELEASE)
        try:
            verdict = await execution.carry()
            return verdict if execution.holds(held) else Drop()
        finally:
            if self.running.get(order.task) is execution:
                del self.running[order.task]

    def cancel(self, message: LiveMessage) -> None:
        """One broadcast on `mesh.cancel.<root>`."""
        try:
            stop = _broadcast.decode(message.data)
        except UNREADABLE:
            return
        for execution in list(self.running.values()):
            if execution.concerns(stop.task):
                execution.stopping.stop(Stop.CANCEL)

    def hear(self, message: LiveMessage) -> None:
        """The end of a tool call, told by its runner on this executor's inbox."""
        try:
            told = _told.decode(message.data)
            entry = Entry(told.seq, envelope.decode(told.commit))
        except UNREADABLE:
            return
        execution = self.running.get(entry.commit.task)
        if execution is not None:
            execution.follower.told(entry)

    def missed(self) -> None:
        """The inbox was cut off for a while."""
        for execution in list(self.running.values()):
            execution.follower.missed()

    def lapse_all(self) -> None:
        """The broker was away: every further effect looks first whether the task is still ours."""
        for execution in list(self.running.values()):
            execution.lapse()

    def release_all(self) -> None:
        """Hands every task back in order (P3)."""
        self._releasing = True
        for execution in list(self.running.values()):
            execution.stopping.stop(Stop.RELEASE)

    def _leaving(self) -> bool:
        return self._releasing

    async def _is_strange(self, order: Run) -> bool:
        """Whether only another version of the app can go on: this one has tried, or has no such agent."""
        if self._served.version in order.not_apps:
            return True
        if not order.agent or order.agent in self._served.app.agents:
            return False
        return (await self._registry.look()).knows(self._served.app.pool, order.agent)

    async def _not_mine(self, held: Held, order: Run) -> Verdict:
        seq, delivered = held.delivery.seq, held.delivery.delivered
        flow = decline(self._driver.names, order, seq, delivered, strange_delay_s(delivered))
        return await self._driver.drive(flow)

    async def _undeliverable(self, order: Run) -> None:
        """P4: the router decides whether this task can ever begin."""
        due = Fired(v=VERSION, task=order.task, kind=commands.UNDELIVERABLE)
        await self._driver.answer(Publish((Message(subject=self._driver.names.fired(order.task), body=due),)))

    async def _bury(self, held: Held, why: str) -> Verdict:
        error = Error(code=codes.INVALID_INPUT, message=why)
        return await self._driver.bury(dead_letters.INVALID_RUN, dead_letters.NO_TASK, error, held.delivery)
