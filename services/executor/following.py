"""What the owner of a task learns of its log while the handler works: told, watched, looked at, read."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Final

from msgspec import DecodeError

from mesh.agents.deltas import Spawn
from mesh.agents.durable import DurableRecorder, Lease
from mesh.bus import Delivery, LiveMessage, StoredMessage, Subscription
from mesh.errors import BusUnavailable, PermissionDenied
from mesh.log.driver import Driver, entry_of
from mesh.log.head import Entry, View, view_of
from mesh.log.ops import ReadAfter, ReadFirst
from mesh.log.owner import Fenced, Owner
from schemas import envelope
from schemas.envelope import Commit
from services.executor.stopping import Stop, Stopping

QUIET_S: Final = 0.1


class Follower:
    """Hands what outsiders wrote to the recorder, and stops the handler of a task that was canceled or lost.

    It has a recorder from `begin` to `pause`; what comes between two of them is read again for the next one.
    """

    def __init__(self, driver: Driver, owner: Owner, lease: Lease, stopping: Stopping) -> None:
        self._driver = driver
        self._owner = owner
        self._lease = lease
        self._stopping = stopping
        self._task = owner.view.task
        self._recorder: DurableRecorder | None = None
        self._spawn: Spawn | None = None
        self._watching: Subscription | None = None
        self._watched = False
        self._timer: asyncio.TimerHandle | None = None
        self._followed = 0
        self._heard: set[int] = set()

    async def read(self, claim: Commit, opening: bytes) -> list[Commit]:
        """The whole log for a new call; that of a task which nobody held before is commit 0 and the claim."""
        self._recorder = None
        view = self._owner.view
        self._followed = view.seq
        if claim.n == 1 and view.n == 1:
            # The claim expected commit 0 to be the newest, and was stored: what the command says of it still holds.
            with suppress(DecodeError):
                return [envelope.decode(opening), claim]
            first: Entry | None = await self._driver.answer(ReadFirst(self._task, view.first))
            return [first.commit, claim] if first else []
        entries: tuple[Entry, ...] = await self._driver.answer(ReadAfter(self._task, 0, view.seq))
        self._followed = max([entry.seq for entry in entries], default=0)
        return [entry.commit for entry in entries]

    def begin(self, recorder: DurableRecorder, spawn: Spawn) -> None:
        """Follows for this recorder, in the background, from where the log was read."""
        self._recorder, self._spawn = recorder, spawn
        self._watch_if_quiet(-1)
        self._heard.clear()  # by the recorder before this one
        if self._owner.view.seq > self._followed:
            self.missed()

    def pause(self) -> None:
        """The handler is done: nothing more is begun in the background."""
        self._spawn = None
        if self._timer:
            self._timer.cancel()

    async def aclose(self) -> None:
        self._recorder = None
        if self._watching:
            await self._watching.aclose()

    async def tick(self, delivery: Delivery) -> None:
        """Keeps the delivery alive while the log says that the task is ours.

        A worker that was frozen looks first: an in-progress of an old holder would keep a dead one's lease alive.
        """
        bus, names = self._driver.bus, self._driver.names
        subject = names.task(self._task)
        try:
            if not self._lease.fresh:
                self._see(await bus.newest(names.tasks, subject, leader=True))
            if self._owner.out:
                return
            asked_at = time.monotonic()
            confirmed, newest = await asyncio.gather(delivery.confirm(), bus.newest(names.tasks, subject))
            if confirmed:
                self._lease.confirm(asked_at)
            if self._watching is None and self._spawn is not None:
                self._spawn(self._watch())
            elif newest is not None and newest.seq > self._followed:
                self.missed()
            self._see(newest)
        except BusUnavailable:
            return

    def told(self, entry: Entry) -> None:
        """Takes the end of a tool call from its runner; what is lost on this way is read from the log."""
        if entry.seq > self._followed and entry.seq not in self._heard:
            self._heard.add(entry.seq)
            self._look_at(view_of(entry))
            self._hand_on(entry)

    def missed(self) -> None:
        """Something may have been told and not heard."""
        if self._spawn is not None:
            self._spawn(self._catch_up())

    def canceled(self) -> bool:
        """Whether the task was asked to stop; its handler is told so."""
        if self._owner.cancel_requested and self._stopping.reason is None:
            self._stopping.stop(Stop.CANCEL)
        return self._stopping.reason is Stop.CANCEL

    async def read_on(self) -> None:
        """Up to what the owner has appended over; raises Fenced where the log is away."""
        while (followed := self._followed) < self._owner.view.seq:
            await self._catch_up()
            if self._followed == followed:
                raise Fenced

    def _watch_if_quiet(self, seq: int) -> None:
        """R6: watches the log once nothing was appended for a while.

        Each append hears of a cancel or a fence by itself, so a task that comes further needs nobody who listens. To
        subscribe for each that takes longer made a busy mesh slower, and so more tasks take longer.
        """
        if self._owner.view.seq != seq:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(QUIET_S, self._watch_if_quiet, self._owner.view.seq)
        elif self._spawn is not None:
            self._spawn(self._watch())

    async def _watch(self) -> None:
        """Hears at once of a cancel, a fence or a result; where that cannot be, the tick looks as well."""
        if not self._watched:
            self._watched = True
            try:
                with suppress(BusUnavailable, PermissionDenied):
                    subject = self._driver.names.log(self._task)
                    self._watching = await self._driver.bus.subscribe(subject, self._hear, on_gap=self.missed)
            finally:
                self._watched = self._watching is not None
            await self._catch_up(self._owner.view.seq)

    def _hear(self, message: LiveMessage) -> None:
        if message.last_seq > self._followed:
            self.missed()
        else:
            self._follow(Entry(message.seq, envelope.decode(message.data)))

    async def _catch_up(self, known: int = 0) -> None:
        """Reads on, to what the leader holds or at least to what is `known`."""
        entries: tuple[Entry, ...] = await self._driver.answer(ReadAfter(self._task, self._followed, known))
        for entry in entries:
            self._follow(entry)

    def _follow(self, entry: Entry) -> None:
        if entry.seq <= self._followed:
            return
        self._look_at(view_of(entry))
        if self._recorder is not None:
            self._followed = entry.seq
            if entry.seq not in self._heard:
                self._hand_on(entry)

    def _hand_on(self, entry: Entry) -> None:
        """What comes behind the request of a cancel may have failed of it: it is no answer to the handler (X1)."""
        if self._recorder is None or self._owner.cancel_requested or entry.commit.by == self._owner.writer.by:
            return
        self._recorder.hear(entry.commit)

    def _see(self, message: StoredMessage | None) -> None:
        if message is not None:
            self._look_at(view_of(entry_of(message)))

    def _look_at(self, view: View) -> None:
        try:
            self._owner.see(view)
        except Fenced:
            self._stopping.stop(Stop.FENCED)
        else:
            self.canceled()
