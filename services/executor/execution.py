"""One task while this executor owns it, from its claim to what ends or suspends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import structlog
from msgspec import Struct
from msgspec.structs import replace

from mesh.agents.app import Agent, Mesh
from mesh.agents.context import Context, TaskInfo
from mesh.agents.durable import DurableRecorder, Lease
from mesh.agents.guard import Raised, Threads, error_of, guard
from mesh.agents.model_step import ModelAccess
from mesh.agents.values import as_recorded, read_input
from mesh.bus import Observer
from mesh.errors import ArtifactMissing, InvalidInput, Nondeterministic, TaskCancelled, TooLarge
from mesh.log.claim import Claimed
from mesh.log.driver import Driver
from mesh.log.head import Writer
from mesh.log.journal import WAITING, Journal
from mesh.log.large import restore, spill
from mesh.log.ops import Ack, Drop, Message, Publish, Verdict
from mesh.log.owner import Fenced, Owner
from mesh.log.request import is_requested
from mesh.worker import Held
from schemas import command
from schemas import error as codes
from schemas.command import Fired
from schemas.envelope import VERSION, event
from schemas.error import Error
from schemas.task import TaskAccepted, TaskCanceled, TaskCompleted, TaskFailed, TaskSuspended, Usage
from services.executor.following import Follower
from services.executor.stopping import Stop, Stopped, Stopping

RESUME_AFTER_S: Final = 5.0
CUT_OFF: Final = Raised(TaskCancelled("the handler was stopped"))
log = structlog.get_logger("mesh.executor")


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
    """The one record of a running task: its owner, its handler, and what becomes of both."""

    def __init__(
        self, served: Served, driver: Driver, claimed: Claimed, writer: Writer, held: Held, lease: Lease,
        opening: bytes = b"",
    ) -> None:  # fmt: skip
        self.task = claimed.view.task
        self.accepted: TaskAccepted | None = None
        self.called: set[str] = set()
        self.executions: dict[str, int] = {}
        self.stopping = Stopping(self.task, served.threads)
        self._served = served
        self._driver = driver
        self._claimed = claimed
        self._opening = opening
        self._owner = Owner(driver.names, writer, claimed)
        self._held = held
        self._lease = lease
        self.follower = Follower(driver, self._owner, lease, self.stopping)
        self._verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

    async def carry(self) -> Verdict:
        """Runs the handler to the task's end, or to whatever stops it."""
        self._held.on_tick = self._tick
        verdict: Verdict | None = None
        try:
            while verdict is None:
                verdict = await self._carry_once()
        except Fenced:
            verdict = Drop()
        finally:
            self._verdict.set_result(Drop() if verdict is None else verdict)
            # Circles that would leave every finished task to the collector, at a tenth of all tasks per second.
            self._held.on_tick = self._held.delivery.in_progress
            self.stopping.let_go()
            await self.follower.aclose()
        return verdict

    def covers(self, seq: int) -> bool:
        """Whether it runs under this command, and still does."""
        return self._owner.view.head.cover == seq and not self._owner.out and self.stopping.reason is None

    def holds(self, held: Held) -> bool:
        """Whether the verdict belongs to this delivery; an earlier one of the same command must send no verb."""
        return self._held is held

    async def adopt(self, held: Held) -> Verdict:
        """Goes on under a later delivery of its own command: this worker was slow, and lost nothing.

        To claim again would fence itself and burn an attempt of a healthy task.
        """
        self._held.on_tick = _nothing
        self._held = held
        held.on_tick = self._tick
        log.warning("the command came again, and its task goes on", task=self.task, delivery=held.delivery.delivered)
        verdict = await asyncio.shield(self._verdict)
        return verdict if self.holds(held) else Drop()

    def concerns(self, task: str) -> bool:
        """Whether a cancel of that task stops this one too."""
        return task == self.task or (self.accepted is not None and task in self.accepted.ancestors)

    def lapse(self) -> None:
        """The broker was away, and may have given the task to another worker (E2)."""
        self._lease.lapse()

    async def _tick(self) -> None:
        await self.follower.tick(self._held.delivery)

    async def _carry_once(self) -> Verdict | None:
        self.stopping.let_go()
        journal = Journal(await self.follower.read(self._claimed.commit, self._opening))
        journal.owed -= self.called
        self.accepted = accepted = journal.accepted
        if accepted is None:
            raise Fenced
        agent = self._served.app.agents.get(accepted.agent)
        if agent is None:
            return await self._fail(_no_agent(self._served.app, accepted.agent))
        if self._owner.cancel_requested:
            if self._served.version in self._owner.view.head.not_apps:
                return await self._end(TaskCanceled(reason="canceled on request"))
            journal.wait_again()
        try:
            if accepted.input_ref:
                accepted = await self.stopping.unless_stopped(restore(accepted, self._driver.objects))
                self.accepted = accepted
            value = read_input(accepted.input, agent.input_type)
        except (InvalidInput, TooLarge, ArtifactMissing) as error:
            return await self._fail(error.to_error())
        except Stopped:
            return await self._leave()
        return await self._call(agent, value, journal)

    async def _call(self, agent: Agent, value: Any, journal: Journal) -> Verdict | None:
        """Calls the handler beside what it needs in the background, and says what came of it."""
        async with asyncio.TaskGroup() as group:
            children: set[asyncio.Task[None]] = set()

            def spawn(work: Coroutine[Any, Any, None]) -> None:
                child = group.create_task(work)
                children.add(child)
                child.add_done_callback(children.discard)

            recorder = DurableRecorder(
                self._owner, self._driver, self._lease, journal, spawn=spawn, carrier=self,
                observer=self._served.observer,
            )  # fmt: skip
            self.follower.begin(recorder, spawn)
            context = self._context(agent, value, journal, recorder)
            arguments = (context, value) if agent.takes_input else (context,)
            handler = asyncio.create_task(self._work(agent, arguments))
            self.stopping.begin(handler, context.replay, recorder)
            self.canceled()
            try:
                await self.stopping.until_done()
                await recorder.settle()
            finally:
                self.follower.pause()
                handler.cancel()
                recorder.close()
                for child in tuple(children):
                    child.cancel()
        if self._owner.out:
            return Drop()
        cut_off = not handler.done() or handler.cancelled()
        return await self._conclude(agent, context, recorder, CUT_OFF if cut_off else handler.result())

    async def _work(self, agent: Agent, arguments: tuple[Any, ...]) -> TaskCompleted | Raised:
        """The handler's output as the log will hold it; who waits for the object store may still be cancelled."""
        output = await guard(agent.handler, arguments, {}, self._served.threads)
        if isinstance(output, Raised):
            return output
        try:
            plain = as_recorded(output, agent.output_type, f"the output of agent '{agent.name}'")
        except (InvalidInput, TooLarge) as error:
            return Raised(error)
        return await spill(TaskCompleted(output=plain), self._driver.objects)

    async def _conclude(
        self, agent: Agent, context: Context, recorder: DurableRecorder, outcome: TaskCompleted | Raised
    ) -> Verdict | None:
        if self.stopping.reason is Stop.RELEASE and isinstance(outcome, Raised):
            return await self._driver.drive(self._owner.release(recorder.emits.take()))
        if self.stopping.cut is Stop.WAIT and isinstance(outcome, Raised):
            return await self._wait_for_others(recorder)
        if self.stopping.reason is Stop.CANCEL and not await self._cancel_is_sure():
            await recorder.commit_rest()
            return await self._go_on()
        if self._owner.cancel_requested:
            return await self._end(TaskCanceled(reason="canceled on request", usage=context.usage), recorder)
        if isinstance(outcome, Raised):
            if isinstance(outcome.error, Nondeterministic):
                return await self._suspend(agent, outcome.error, recorder)
            return await self._fail(error_of(outcome.error), recorder, context.usage)
        try:
            context.replay.check_complete()
            return await self._end(replace(outcome, usage=context.usage), recorder)
        except Nondeterministic as error:
            return await self._suspend(agent, error, recorder)
        except TooLarge as error:
            return await self._fail(error.to_error(), recorder, context.usage)

    async def _leave(self) -> Verdict | None:
        """There was a reason to stop before the handler was called."""
        if self._owner.out:
            return Drop()
        if self.stopping.reason is Stop.CANCEL and await self._cancel_is_sure():
            return await self._end(TaskCanceled(reason="canceled on request"))
        return await self._go_on()

    async def _go_on(self) -> Verdict | None:
        """The handler is called again, unless the task was to be handed back meanwhile."""
        if self.stopping.reason is Stop.RELEASE:
            return await self._driver.drive(self._owner.release())
        self.stopping.go_on()
        return None

    async def _cancel_is_sure(self) -> bool:
        async def look() -> bool:
            if not self._owner.cancel_requested and self.stopping.reason is Stop.CANCEL:
                await self._driver.drive(self._owner.look())
            return self._owner.cancel_requested or self.stopping.reason is not Stop.CANCEL

        if not await is_requested(look):
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
        await self.follower.read_on()
        if recorder.answered or recorder.owes or self._owner.cancel_requested:
            await recorder.commit_rest()
        else:
            events = (*recorder.emits.take(), event(TaskSuspended(reason=WAITING)))
            if await self._driver.drive(self._owner.suspend(events)):
                return Ack()
        if self.stopping.reason is Stop.WAIT:
            self.stopping.go_on()
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
        self.stopping.stop(Stop.FENCED)

    def canceled(self) -> bool:
        return self.follower.canceled()

    def idle(self) -> None:
        if self.stopping.reason is None:
            self.stopping.stop(Stop.WAIT)


async def _nothing() -> None:
    """The tick of a delivery that was handed over."""


def _no_agent(app: Mesh, name: str) -> Error:
    return Error(
        code=codes.UNKNOWN_AGENT,
        message=f"app '{app.name}' on this worker has no agent '{name}'",
        hint=f"it has: {', '.join(sorted(app.agents))}; was it renamed while the task waited?",
    )
