"""Records a handler's steps and emits in the log of the task its worker owns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from mesh.agents.deltas import Deltas, Source, Spawn
from mesh.agents.emits import Emits
from mesh.agents.history import LoggedPast
from mesh.bus import Observer
from mesh.errors import MeshError, TaskCancelled, TooLarge
from mesh.log.driver import Driver
from mesh.log.journal import Journal
from mesh.log.large import spill
from mesh.log.ops import Message, Publish
from mesh.log.owner import Fenced, Owner
from mesh.log.steps import Step
from mesh.subjects import root_of
from schemas.command import Call
from schemas.envelope import VERSION, Commit, Event
from schemas.step import StepCompleted, StepFailed, StepRequested, StepStarted

COMMIT_WITHIN_S: Final = 1.0
HOLD_S: Final = 1.0
# More executions of one step than a claim ever makes, so that those of a later claim have higher numbers.
EXECUTIONS_PER_CLAIM: Final = 1000
Ticket = tuple[tuple[Event, ...], asyncio.Future[str] | None]


class Lease:
    """Whether the broker still holds the delivery for this worker, as far as it can know (rule E2).

    Only an in-progress renews it, and what counts is when that was asked: the answer may have waited here while this
    process was frozen. Once lapsed it stays so: the delivery may be another worker's since, whatever is confirmed
    later, and every further effect looks at the log first.
    """

    def __init__(self, lasts_s: float) -> None:
        self._lasts_s = lasts_s
        self._at = time.monotonic()
        self._lapsed = False

    def confirm(self, asked_at: float) -> None:
        """Takes note of an answer; `asked_at` is `time.monotonic()` before the request."""
        self._at = max(self._at, asked_at)

    def lapse(self) -> None:
        """The broker was away, and may have forgotten the delivery when it came back."""
        self._lapsed = True

    @property
    def fresh(self) -> bool:
        self._lapsed = self._lapsed or time.monotonic() - self._at >= self._lasts_s
        return not self._lapsed


class Carrier(Protocol):
    """What a recorder asks of whoever carries the task."""

    @property
    def pool(self) -> str:
        """Where the app's tool calls are made."""
        ...

    @property
    def called(self) -> set[str]:
        """Steps whose calls were published under this claim, also before the handler was called again."""
        ...

    @property
    def executions(self) -> dict[str, int]:
        """The newest execution of each model step under this claim."""
        ...

    @property
    def inbox(self) -> str:
        """Where the ends of tool calls are told."""
        ...

    def fenced(self) -> None:
        """The task is not ours any more."""
        ...

    def canceled(self) -> bool:
        """Whether the task was asked to stop; its handler is told so soon, if it was not before."""
        ...

    def idle(self) -> None:
        """The handler waits for others alone."""
        ...


class DurableRecorder:
    """The recorder of one claimed task.

    One append is in flight at a time (L4); what other branches want to commit meanwhile goes together in the next one.
    """

    def __init__(
        self,
        owner: Owner,
        driver: Driver,
        lease: Lease,
        journal: Journal,
        *,
        spawn: Spawn,
        carrier: Carrier,
        observer: Observer | None = None,
    ) -> None:
        self.emits = Emits(journal.claims, len(journal.text), driver.clock.now)
        self.objects = driver.objects
        self.past = LoggedPast(driver, journal.accepted, owner.view.first) if journal.accepted else None
        self._owner = owner
        self._driver = driver
        self._lease = lease
        self._spawn = spawn
        self._journal = journal
        self._carrier = carrier
        self._observer = observer
        self._awaited: dict[str, asyncio.Future[None]] = {}
        self._owed = set(journal.owed)
        self._effects = 0
        self.waits: tuple[str, ...] = ()
        self._hold: asyncio.TimerHandle | None = None
        self._deltas = self.teller(Source(attempt=journal.claims))
        self._waiting: list[Ticket] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._due = False
        self.stopping = False
        self.cancelled = False
        self._closed = asyncio.Event()

    def stop(self, *, canceled: bool) -> None:
        """The handler is being told to stop: it may begin nothing more."""
        self.stopping = True
        self.cancelled = self.cancelled or canceled

    async def commit(self, events: tuple[Event, ...]) -> str:
        if _begins(events):
            await self._heed()
        elif self._closed.is_set():
            raise Fenced
        # Here and not with the append, which is not given up: who waits for the object store may still be cancelled.
        events = tuple([Event(one.type, await spill(one.data, self.objects)) for one in events])
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        for one in events:
            if isinstance(one.data, StepRequested) and one.data.kind == "tool":
                self._owed.add(one.data.step)
        self._start((events, done))
        return await done

    async def commit_rest(self) -> None:
        """Commits what was emitted, once no branch of the handler is left."""
        await self._append(())

    def close(self) -> None:
        """Takes nothing more from the handler; one that was left behind may still try."""
        self._closed.set()
        self._stop_hold()

    async def settle(self) -> None:
        """Returns when no append is in flight any more."""
        await self._idle.wait()

    async def lease(self) -> None:
        if not (self._closed.is_set() or (self._lease.fresh and self._driver.bus.connected)):
            await self._driver.drive(self._owner.look())
        await self._heed()

    async def _heed(self) -> None:
        """X4: nothing is begun for a task that was asked to stop; a handler that does not know yet is told here."""
        if self._closed.is_set() or self._owner.out:
            raise Fenced
        if self.stopping:
            raise TaskCancelled(f"task '{self._owner.view.task}' was asked to stop")
        if self._carrier.canceled():
            await self._closed.wait()
            raise Fenced

    @contextmanager
    def performing(self, step: str) -> Iterator[None]:
        if self._observer is not None:
            log = self._driver.names.task(self._owner.view.task)
            self._observer.before("perform", f"{log}.{self._owner.claim}.{step}")
        self._effects += 1
        self._stop_hold()
        try:
            yield
        finally:
            self._effects -= 1
            self._maybe_idle()

    async def call(self, step: Step, timeout_s: float | None, *, again: bool) -> None:
        # What this worker has seen since it lost the task may hold the start of the call that the new owner made.
        await self._heed()
        view = self._owner.view
        body = Call(
            v=VERSION, task=view.task, root=root_of(view.task), first=view.first, last=view.seq, n=view.n,
            head=view.head, step=step.key, tool=step.name, arguments=step.input, timeout_s=timeout_s,
            again=again, reply=self._carrier.inbox,
        )  # fmt: skip
        await self._driver.answer(Publish((Message(subject=self._driver.names.call(self._carrier.pool), body=body),)))
        self._owed.discard(step.key)
        self._carrier.called.add(step.key)

    async def wait(self, step: str) -> StepCompleted | StepFailed:
        if self._closed.is_set():
            raise Fenced
        if step not in self._journal.results:
            done = self._awaited[step] = asyncio.get_running_loop().create_future()
            self._maybe_idle()
            try:
                await done
            finally:
                del self._awaited[step]
                self._stop_hold()
                self._maybe_idle()
        return self._journal.results[step]

    def hear(self, commit: Commit) -> None:
        """Takes what an outsider wrote into the log: the ends of steps that are waited for."""
        for one in commit.events:
            self._journal.add(one, commit.at)
            if isinstance(one.data, StepCompleted | StepFailed):
                done = self._awaited.get(one.data.step)
                if done is not None and not done.done():
                    done.set_result(None)

    @property
    def answered(self) -> bool:
        """Whether a result has come for something that the handler waited for."""
        return any(step in self._journal.results for step in self.waits)

    @property
    def owes(self) -> bool:
        """Whether a call that the log asks for may not have been published yet (R7)."""
        return bool(self._owed - self._journal.results.keys())

    def _stop_hold(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None

    def _maybe_idle(self) -> None:
        """A handler that waits for others alone, for longer than a short hold, needs no worker meanwhile.

        Not while a call is still to be published (R7): once the task is suspended, nobody would.
        """
        if self._awaited and not self._effects and self._hold is None and not self._closed.is_set():
            self._hold = asyncio.get_running_loop().call_later(HOLD_S, self._hold_is_over)

    def _hold_is_over(self) -> None:
        self._hold = None
        if not self._awaited or self._effects or any(done.done() for done in self._awaited.values()):
            return
        if self.owes:
            self._maybe_idle()
        else:
            self.waits = tuple(self._awaited)
            self._carrier.idle()

    async def tell(self, text: str, offset: int) -> None:
        if self._closed.is_set():
            raise Fenced
        await self._deltas.tell(text, offset)

    def teller(self, source: Source) -> Deltas:
        task, driver = self._owner.view.task, self._driver
        return Deltas(
            driver.bus, driver.names.delta(task), task, source, clock=driver.clock.now, spawn=self._spawn
        )  # fmt: skip

    def attempt(self, step: str) -> int:
        executions = self._carrier.executions
        before = executions.get(step, (self._journal.claims - 1) * EXECUTIONS_PER_CLAIM)
        executions[step] = before + 1
        return before + 1

    def soon(self) -> None:
        if not self._due and not self._closed.is_set():
            self._due = True
            self._spawn(self._commit_late())

    def _start(self, ticket: Ticket) -> None:
        self._waiting.append(ticket)
        if self._idle.is_set():
            self._idle.clear()
            self._spawn(self._commit_waiting())

    async def _commit_late(self) -> None:
        await asyncio.sleep(COMMIT_WITHIN_S)
        self._due = False
        if self.emits and not self._owner.out:
            self._start(((), None))

    async def _commit_waiting(self) -> None:
        """Appends in a task of its own: a branch that is cancelled must not cut off what others wait for."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._commit_batch(batch)
        finally:
            self._idle.set()
            _cancel(self._waiting)

    async def _commit_batch(self, batch: list[Ticket]) -> None:
        events = tuple([event for group, _ in batch for event in group])
        try:
            at = await self._append(events)
        except TooLarge as error:
            if len(batch) == 1:
                _fail(batch, error)
            else:
                for ticket in batch:
                    await self._commit_batch([ticket])
        except (Fenced, MeshError) as error:
            _fail(batch, error)
            if isinstance(error, Fenced):
                self._carrier.fenced()
        except asyncio.CancelledError:
            _cancel(batch)
            raise
        else:
            for _, done in batch:
                if done and not done.done():
                    done.set_result(at)

    async def _append(self, events: tuple[Event, ...]) -> str:
        if self._owner.out:
            raise Fenced
        emits = self.emits.take()
        if not emits and not events:
            return ""
        try:
            result = await self._driver.drive(self._owner.commit(emits + events))
        except TooLarge:
            groups = [group for group in (*((one,) for one in emits), events) if group]
            if len(groups) == 1:
                raise
            for group in groups:
                result = await self._driver.drive(self._owner.commit(group))
        return result.commit.at


def _begins(events: tuple[Event, ...]) -> bool:
    """Whether something is begun whose result does not come with it."""
    kinds = {type(one.data) for one in events}
    return not kinds.isdisjoint((StepRequested, StepStarted)) and kinds.isdisjoint((StepCompleted, StepFailed))


def _fail(batch: list[Ticket], error: Exception) -> None:
    for _, done in batch:
        if done and not done.done():
            done.set_exception(error)


def _cancel(batch: list[Ticket]) -> None:
    for _, done in batch:
        if done:
            done.cancel()
