"""One task while this executor owns it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from enum import IntEnum
from typing import Any, Final

import structlog
from msgspec import DecodeError, Struct

from mesh.agents.app import Agent, Mesh
from mesh.agents.context import Context, TaskInfo
from mesh.agents.deltas import Spawn
from mesh.agents.durable import DurableRecorder, Lease
from mesh.agents.guard import Raised, Threads, error_of, guard
from mesh.agents.model_step import ModelAccess
from mesh.agents.values import as_recorded, read_input
from mesh.bus import LiveMessage, Observer, Subscription
from mesh.errors import ArtifactMissing, BusUnavailable, InvalidInput, Nondeterministic, TaskCancelled, TooLarge
from mesh.log.claim import Claimed
from mesh.log.driver import Driver, entry_of
from mesh.log.head import Entry, View, Writer, view_of
from mesh.log.journal import WAITING, Journal
from mesh.log.large import restore
from mesh.log.ops import Ack, Drop, Message, Publish, ReadAfter, ReadFirst, Verdict
from mesh.log.owner import Fenced, Owner
from mesh.worker import Held
from schemas import command, envelope
from schemas import error as codes
from schemas.command import Fired
from schemas.envelope import VERSION, Commit, event
from schemas.error import Error
from schemas.task import TaskAccepted, TaskCanceled, TaskCompleted, TaskFailed, TaskSuspended, Usage

WATCH_AFTER_S: Final = 0.1
STUBBORN_S: Final = 5.0
RESUME_AFTER_S: Final = 5.0
CANCEL_LOOKS: Final = 32
CUT_OFF: Final = Raised(TaskCancelled("the handler was stopped"))
CANCEL_LOOK_S: Final = 0.2
log = structlog.get_logger("mesh.executor")


class Stop(IntEnum):
    """Why a handler is stopped before it is done; a later one outranks those before it.

    `WAIT` because it waits for others alone.
    """

    WAIT = 1
    CANCEL = 2
    RELEASE = 3
    FENCED = 4


class Served(Struct, frozen=True):
    """What an executor serves, and what its handlers share."""

    app: Mesh
    version: str
    secrets: Callable[[str], str | None]
    threads: Threads
    observer: Observer | None = None
    models: ModelAccess | None = None
    definitions: Mapping[str, str] = {}
    inbox: str = ""


class Execution:
    """The one record of a running task: its owner, its handler, and why it stops."""

    def __init__(
        self, served: Served, driver: Driver, claimed: Claimed, writer: Writer, held: Held, lease: Lease,
        opening: bytes = b"",
    ) -> None:  # fmt: skip
        self.task = claimed.view.task
        self.accepted: TaskAccepted | None = None
        self.stop_reason: Stop | None = None
        self.called: set[str] = set()
        self.executions: dict[str, int] = {}
        self._served = served
        self._driver = driver
        self._claimed = claimed
        self._opening = opening
        self._writer = writer
        self._owner = Owner(driver.names, writer, claimed)
        self._spawn: Spawn | None = None
        self._held = held
        self._lease = lease
        self._handler: asyncio.Task[Any] | None = None
        self._stopping = asyncio.Event()
        self._verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._recorder: DurableRecorder | None = None
        self._watching: Subscription | None = None
        self._watched = False
        self._followed = 0
        self._heard: set[int] = set()

    async def carry(self) -> Verdict:
        """Runs the handler to the task's end, or to whatever stops it."""
        self._held.on_tick = self.tick
        verdict: Verdict | None = None
        try:
            while verdict is None:
                verdict = await self._carry_once()
        except Fenced:
            verdict = Drop()
        finally:
            self._verdict.set_result(Drop() if verdict is None else verdict)
            if self._watching:
                await self._watching.aclose()
            # Two circles that would leave every finished task to the collector, at a tenth of all tasks per second.
            self._held.on_tick = self._held.delivery.in_progress
            self._recorder = None
        return verdict

    def covers(self, seq: int) -> bool:
        """Whether it runs under this command, and still does."""
        return self._owner.view.head.cover == seq and not self._owner.out and self.stop_reason is None

    def holds(self, held: Held) -> bool:
        """Whether the verdict belongs to this delivery; an earlier one of the same command must send no verb."""
        return self._held is held

    async def adopt(self, held: Held) -> Verdict:
        """Goes on under a later delivery of its own command: this worker was slow, and lost nothing.

        To claim again would fence itself and burn an attempt of a healthy task.
        """
        self._held.on_tick = _nothing
        self._held = held
        held.on_tick = self.tick
        log.warning("the command came again, and its task goes on", task=self.task, delivery=held.delivery.delivered)
        verdict = await asyncio.shield(self._verdict)
        return verdict if self.holds(held) else Drop()

    def concerns(self, task: str) -> bool:
        """Whether a cancel of that task stops this one too."""
        return task == self.task or (self.accepted is not None and task in self.accepted.ancestors)

    def stop(self, reason: Stop) -> None:
        """Stops the handler, for this reason unless a higher one is there already."""
        self.stop_reason = max(reason, self.stop_reason or reason)
        if self._recorder:
            self._recorder.stopping = True
        if self._handler:
            self._handler.cancel()
            self._stopping.set()

    def lapse(self) -> None:
        """The broker was away, and may have given the task to another worker (E2)."""
        self._lease.lapse()

    async def tick(self) -> None:
        """Keeps the delivery alive while the log says that the task is ours.

        A worker that was frozen looks first: an in-progress of an old holder would keep a dead one's lease alive.
        """
        subject = self._driver.names.task(self.task)
        try:
            if not self._lease.fresh:
                self._see(await self._driver.bus.newest(self._driver.names.tasks, subject, leader=True))
            if self._owner.out:
                return
            asked_at = time.monotonic()
            confirmed, newest = await asyncio.gather(
                self._held.delivery.confirm(), self._driver.bus.newest(self._driver.names.tasks, subject)
            )
            if confirmed:
                self._lease.confirm(asked_at)
            if self._watching is None and self._spawn is not None:
                self._spawn(self._watch())
            elif newest is not None and newest.seq > self._followed:
                self.missed()
            self._see(newest)
        except BusUnavailable:
            return

    async def _carry_once(self) -> Verdict | None:
        self._recorder = None  # what comes until there is another one is read again for it
        journal = Journal(await self._commits())
        journal.owed -= self.called
        self.accepted = accepted = journal.accepted
        if accepted is None:
            raise Fenced
        agent = self._served.app.agents.get(accepted.agent)
        if agent is None:
            return await self._fail(_no_agent(self._served.app, accepted.agent))
        try:
            self.accepted = await restore(accepted, self._driver.objects)
            value = read_input(self.accepted.input, agent.input_type)
        except (InvalidInput, TooLarge, ArtifactMissing) as error:
            return await self._fail(error.to_error())
        return await self._call(agent, value, journal)

    async def _commits(self) -> list[Commit]:
        """The task's log; that of a task which nobody held before is commit 0 and the claim."""
        claim = self._claimed.commit
        view = self._owner.view
        self._followed = view.seq
        if claim.n == 1 and view.n == 1:
            # The claim expected commit 0 to be the newest, and was stored: what the command says of it still holds.
            with suppress(DecodeError):
                return [envelope.decode(self._opening), claim]
            opening: Entry | None = await self._driver.answer(ReadFirst(self.task, view.first))
            return [opening.commit, claim] if opening else []
        entries: tuple[Entry, ...] = await self._driver.answer(ReadAfter(self.task, 0, view.seq))
        self._followed = max([entry.seq for entry in entries], default=0)
        return [entry.commit for entry in entries]

    async def _call(self, agent: Agent, value: Any, journal: Journal) -> Verdict | None:
        """Calls the handler beside what it needs in the background, and says what came of it."""
        async with asyncio.TaskGroup() as group:
            children: list[asyncio.Task[None]] = []

            def spawn(work: Coroutine[Any, Any, None]) -> None:
                children.append(group.create_task(work))

            recorder = DurableRecorder(
                self._owner, self._driver, self._lease, journal, spawn=spawn, following=self,
                observer=self._served.observer,
            )  # fmt: skip
            self._recorder, self._spawn = recorder, spawn
            self._heard.clear()  # by the recorder before this one
            if self._owner.view.seq > self._followed:
                self.missed()
            context = self._context(agent, value, journal, recorder)
            arguments = (context, value) if agent.takes_input else (context,)
            self._handler = asyncio.create_task(guard(agent.handler, arguments, {}, self._served.threads))
            if self.stop_reason or self._owner.cancel_requested:
                self.stop(self.stop_reason or Stop.CANCEL)
            watch = asyncio.get_running_loop().call_later(WATCH_AFTER_S, lambda: spawn(self._watch()))
            try:
                await self._until_done(self._handler)
                await recorder.settle()
            finally:
                self._spawn = None
                self._handler.cancel()
                recorder.close()
                watch.cancel()
                for child in children:
                    child.cancel()
        if self._owner.out:
            return Drop()
        cut_off = not self._handler.done() or self._handler.cancelled()
        outcome = CUT_OFF if cut_off else self._handler.result()
        return await self._conclude(agent, context, recorder, outcome)

    async def _until_done(self, handler: asyncio.Task[Any]) -> None:
        """Waits for the handler; one that swallows its cancellation is left behind after a while, and counted."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((handler, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if not handler.done():
            await asyncio.wait((handler,), timeout=STUBBORN_S)
        if not handler.done():
            log.error("the handler does not stop and is left behind", task=self.task)
            self._served.threads.abandoned += 1
            handler.add_done_callback(self._came_back)

    def _came_back(self, handler: asyncio.Task[Any]) -> None:
        self._served.threads.abandoned -= 1

    async def _conclude(
        self, agent: Agent, context: Context, recorder: DurableRecorder, outcome: Any
    ) -> Verdict | None:
        if self.stop_reason is Stop.RELEASE and isinstance(outcome, Raised):
            return await self._driver.drive(self._owner.release(recorder.emits.take()))
        if self.stop_reason is Stop.WAIT and isinstance(outcome, Raised) and not self._owner.cancel_requested:
            return await self._wait_for_others(recorder)
        if self.stop_reason is Stop.CANCEL and not await self._cancel_is_sure():
            await recorder.commit_rest()
            return await self._go_on()
        if self._owner.cancel_requested:
            return await self._end(TaskCanceled(reason="canceled on request", usage=context.usage), recorder)
        if isinstance(outcome, Raised):
            if isinstance(outcome.error, Nondeterministic):
                return await self._suspend(agent, outcome.error, recorder)
            return await self._fail(error_of(outcome.error), recorder, context.usage)
        try:
            output = as_recorded(outcome, agent.output_type, f"the output of agent '{agent.name}'")
            context.check_complete()
            return await self._end(TaskCompleted(output=output, usage=context.usage), recorder)
        except Nondeterministic as error:
            return await self._suspend(agent, error, recorder)
        except (InvalidInput, TooLarge) as error:
            return await self._fail(error.to_error(), recorder, context.usage)

    async def _go_on(self) -> Verdict | None:
        """The handler is called again, unless the task was to be handed back meanwhile."""
        if self.stop_reason is Stop.RELEASE:
            return await self._driver.drive(self._owner.release())
        self.stop_reason = None
        self._stopping.clear()
        return None

    async def _cancel_is_sure(self) -> bool:
        """A broadcast stops effects; only a request in the log ends the task."""
        for look in range(CANCEL_LOOKS):
            if self._owner.cancel_requested or self.stop_reason is not Stop.CANCEL:
                return self._owner.cancel_requested
            assert self._recorder is not None
            await self._recorder.look()
            if not self._owner.cancel_requested:
                await asyncio.sleep(min(0.001 * 2**look, CANCEL_LOOK_S))
        log.warning("a cancel was broadcast and is not in the log; the task goes on", task=self.task)
        return self._owner.cancel_requested

    async def _end(self, terminal: Struct, recorder: DurableRecorder | None = None) -> Verdict:
        before = recorder.emits.take() if recorder else ()
        try:
            return await self._driver.drive(self._owner.end(terminal, before))
        except TooLarge:
            if not before:
                raise
            for one in before:
                await self._driver.drive(self._owner.commit((one,)))
            return await self._driver.drive(self._owner.end(terminal))

    async def _fail(self, error: Error, recorder: DurableRecorder | None = None, usage: Usage | None = None) -> Verdict:
        log.info("task failed", task=self.task, code=error.code, error=error.message)
        return await self._end(TaskFailed(error=error, usage=usage), recorder)

    async def _suspend(self, agent: Agent, error: Nondeterministic, recorder: DurableRecorder) -> Verdict:
        """S4: another version of the app may fit; the router resumes the task when it is there."""
        if agent.on_change == "fail":
            return await self._fail(error.to_error(), recorder)
        names = self._driver.names
        resume = Fired(v=VERSION, task=self.task, kind=command.RESUME, delay_s=RESUME_AFTER_S)
        timer = Message(
            subject=names.later(command.RESUME, self.task), body=resume, target=names.fired(self.task),
            after_s=RESUME_AFTER_S,
        )  # fmt: skip
        await self._driver.answer(Publish((timer,)))
        suspended = TaskSuspended(
            reason=codes.NONDETERMINISTIC,
            error=error.to_error(),
            not_apps=(*self._owner.view.head.not_apps, self._served.version),
        )
        events = (*recorder.emits.take(), event(suspended))
        log.warning("task suspended", task=self.task, error=str(error))
        while not await self._driver.drive(self._owner.suspend(events)):
            if self._owner.cancel_requested:
                return await self._end(TaskCanceled(reason="canceled on request"))
        return Ack()

    async def _wait_for_others(self, recorder: DurableRecorder) -> Verdict | None:
        """R7: what the handler waits for was published before; a result that came first makes it go on.

        The owner may have appended over a result that it has not looked at yet, and whoever wrote that saw a running
        task and woke nobody: so the log is read on before the wake is closed.
        """
        while (followed := self._followed) < self._owner.view.seq:
            await self._catch_up()
            if self._followed == followed:
                raise Fenced
        if self._owner.cancel_requested:
            return await self._end(TaskCanceled(reason="canceled on request"), recorder)
        if recorder.answered or recorder.owes:
            await recorder.commit_rest()
        else:
            events = (*recorder.emits.take(), event(TaskSuspended(reason=WAITING)))
            if await self._driver.drive(self._owner.suspend(events)):
                return Ack()
        if self.stop_reason is Stop.WAIT:
            self.stop_reason = None
            self._stopping.clear()
        return None

    def _context(self, agent: Agent, value: Any, journal: Journal, recorder: DurableRecorder) -> Context:
        accepted = self.accepted
        assert accepted is not None
        info = TaskInfo(
            id=self.task, agent=agent.name, context_id=accepted.context_id or self.task, owner=accepted.owner,
            attempt=journal.claims, metadata=accepted.metadata,
        )  # fmt: skip
        structlog.contextvars.bind_contextvars(
            task=info.id, context=info.context_id, agent=info.agent, attempt=info.attempt
        )
        return Context(
            info, value, journal, recorder, tools=self._served.app.find_tool, secrets=self._served.secrets,
            threads=self._served.threads, models=self._served.models,
        )  # fmt: skip

    @property
    def pool(self) -> str:
        """Where the app's tool calls are made."""
        return self._served.app.pool

    @property
    def inbox(self) -> str:
        """Where the ends of tool calls are told."""
        return self._served.inbox

    def fenced(self) -> None:
        self.stop(Stop.FENCED)

    def idle(self) -> None:
        if self.stop_reason is None:
            self.stop(Stop.WAIT)

    def told(self, entry: Entry) -> None:
        """Takes the end of a tool call from its runner; what is lost on this way is read from the log."""
        if entry.seq > self._followed and entry.seq not in self._heard:
            self._heard.add(entry.seq)
            self._hand_on(entry)
            self._look_at(view_of(entry))

    def missed(self) -> None:
        """Something may have been told and not heard."""
        if self._spawn is not None:
            self._spawn(self._catch_up())

    async def _watch(self) -> None:
        """R6: a task that takes longer is watched, so that its worker hears of a cancel or a fence at once."""
        if not self._watched:
            self._watched = True
            with suppress(BusUnavailable):  # the tick looks as well
                self._watching = await self._driver.bus.subscribe(
                    self._driver.names.log(self.task), self._hear, on_gap=self.missed
                )
                await self._catch_up(self._owner.view.seq)

    def _hear(self, message: LiveMessage) -> None:
        if message.last_seq > self._followed:
            self.missed()
        else:
            self._follow(Entry(message.seq, envelope.decode(message.data)))

    async def _catch_up(self, known: int = 0) -> None:
        """Reads on, to what the leader holds or at least to what is `known`."""
        entries: tuple[Entry, ...] = await self._driver.answer(ReadAfter(self.task, self._followed, known))
        for entry in entries:
            self._follow(entry)

    def _follow(self, entry: Entry) -> None:
        if entry.seq <= self._followed:
            return
        if self._recorder is None:
            self._look_at(view_of(entry))
            return
        self._followed = entry.seq
        if entry.seq not in self._heard:
            self._hand_on(entry)
        self._look_at(view_of(entry))

    def _hand_on(self, entry: Entry) -> None:
        if self._recorder is not None and entry.commit.by != self._writer.by:
            self._recorder.hear(entry.commit)

    def _see(self, message: Any) -> None:
        if message is not None:
            self._look_at(view_of(entry_of(message)))

    def _look_at(self, view: View) -> None:
        try:
            self._owner.see(view)
        except Fenced:
            self.stop(Stop.FENCED)
        else:
            if self._owner.cancel_requested and self.stop_reason is None:
                self.stop(Stop.CANCEL)


async def _nothing() -> None:
    """The tick of a delivery that was handed over."""


def _no_agent(app: Mesh, name: str) -> Error:
    return Error(
        code=codes.UNKNOWN_AGENT,
        message=f"app '{app.name}' on this worker has no agent '{name}'",
        hint=f"it has: {', '.join(sorted(app.agents))}; was it renamed while the task waited?",
    )
