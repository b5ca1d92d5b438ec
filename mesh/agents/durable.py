"""Records a handler's steps and emits in the log of the task its worker owns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from mesh.agents.deltas import Deltas, Spawn
from mesh.agents.emits import Emits
from mesh.bus import Observer
from mesh.errors import MeshError, TaskCancelled, TooLarge
from mesh.log.driver import Driver
from mesh.log.head import view_of
from mesh.log.journal import Journal
from mesh.log.ops import Read
from mesh.log.owner import Fenced, Owner
from schemas.envelope import Event

COMMIT_WITHIN_S: Final = 1.0
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
        on_fenced: Callable[[], None],
        observer: Observer | None = None,
    ) -> None:
        task = owner.view.task
        self.emits = Emits(journal.claims, len(journal.text), driver.clock.now)
        self._owner = owner
        self._driver = driver
        self._lease = lease
        self._spawn = spawn
        self._on_fenced = on_fenced
        self._observer = observer
        self._deltas = Deltas(
            driver.bus, driver.names.delta(task), task, journal.claims, clock=driver.clock.now, spawn=spawn
        )
        self._waiting: list[Ticket] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._due = False
        self.stopping = False
        self._closed = False

    @property
    def cancelled(self) -> bool:
        return self.stopping or self._owner.cancel_requested

    async def commit(self, events: tuple[Event, ...]) -> str:
        if self._closed:
            raise Fenced
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._start((events, done))
        return await done

    async def commit_rest(self) -> None:
        """Commits what was emitted, once no branch of the handler is left."""
        await self._append(())

    def close(self) -> None:
        """Takes nothing more from the handler; one that was left behind may still try."""
        self._closed = True

    async def settle(self) -> None:
        """Returns when no append is in flight any more."""
        await self._idle.wait()

    async def lease(self) -> None:
        if self._closed:
            raise Fenced
        if not (self._lease.fresh and self._driver.bus.connected):
            await self.look()
        if self.cancelled:
            raise TaskCancelled(f"task '{self._owner.view.task}' was asked to stop")

    def performing(self, step: str) -> None:
        if self._observer is not None:
            log = self._driver.names.task(self._owner.view.task)
            self._observer.before("perform", f"{log}.{self._owner.claim}.{step}")

    async def look(self) -> None:
        """Reads the newest commit from the leader; raises Fenced if the task is not ours."""
        entry = await self._driver.answer(Read(self._owner.view.task))
        if entry is None:
            raise Fenced
        self._owner.see(view_of(entry))

    async def tell(self, text: str, offset: int) -> None:
        if self._closed:
            raise Fenced
        await self._deltas.tell(text, offset)

    def soon(self) -> None:
        if not self._due and not self._closed:
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
                self._on_fenced()
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


def _fail(batch: list[Ticket], error: Exception) -> None:
    for _, done in batch:
        if done and not done.done():
            done.set_exception(error)


def _cancel(batch: list[Ticket]) -> None:
    for _, done in batch:
        if done:
            done.cancel()
