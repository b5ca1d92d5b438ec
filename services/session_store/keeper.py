"""Keeps the view up with the log, builds another one beside it when asked to, and puts it in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any, Final

import structlog
from msgspec.structs import replace

from mesh.bus import Bus, Follow, Followed, StoredMessage, StreamFacts
from mesh.errors import MeshError
from mesh.log.driver import DEPOSED_S
from mesh.subjects import Subjects
from services.session_store import rules, views
from services.session_store.database import Database, DatabaseUnavailable, DataRefused
from services.session_store.rules import Stored
from services.session_store.views import Overtaken, View

RETRY_S: Final = 1.0
HEARTBEAT_S: Final = 2.0
LOOK_S: Final = 0.5
NEWS_S: Final = 0.05
log = structlog.get_logger("mesh.session_store")


class StreamChanged(MeshError):
    """The stream is another one than the view was built from, or shorter, or held what the view was told it did not."""


class Builder:
    """Moves one view on, for as long as it runs; `caught_up` once it shows all that there was when it began."""

    def __init__(self, bus: Bus, names: Subjects, database: Database, view: View, moved: Callable[[], None]) -> None:
        self.view = view
        self.caught_up = False
        self.follow: Follow | None = None
        self._bus = bus
        self._names = names
        self._database = database
        self._moved = moved

    async def run(self) -> None:
        """Applies what comes; raises StreamChanged, Overtaken, DatabaseUnavailable, BusUnavailable."""
        following = await self._bus.follow(self._names.tasks, after=self.view.applied, covered=self.view.seq)
        async with aclosing(following) as self.follow:
            while True:
                await self._apply(await self.follow.next())

    async def _apply(self, came: Followed) -> None:
        if came.created != self.view.created or came.upto < self.view.seq:
            raise StreamChanged("the stream is another one, or shorter")
        if came.messages and came.messages[0].seq <= self.view.seq:
            late = f"{came.messages[0].subject} came at {came.messages[0].seq}, where nothing was said to be"
            log.warning("the view is built anew", reason=late, was=self.view.seq)
            await self._database.write(views.begin_again, self.view)
            raise StreamChanged(late)
        if came.upto > self.view.seq or (came.caught_up and not self.view.complete):
            messages = [one for message in came.messages if (one := self._of_interest(message)) is not None]
            to = self._at(came.upto, came.messages[-1].seq if came.messages else self.view.applied)
            to = replace(to, complete=to.complete or came.caught_up)
            try:
                self.view = await self._database.write(views.move_on, self.view, messages, to)
            except DataRefused:
                await self._one_by_one(messages)
                self.view = await self._database.write(views.move_on, self.view, [], to)
        if came.caught_up:
            self.caught_up = True
        self._moved()

    async def _one_by_one(self, messages: list[Stored]) -> None:
        """One message that cannot be held must not keep the others from being applied."""
        for message in messages:
            to = self._at(message.seq, message.seq)
            try:
                self.view = await self._database.write(views.move_on, self.view, [message], to)
            except DataRefused as error:
                log.error("a commit is skipped", task=message.task, sequence=message.seq, error=str(error))
                self.view = await self._database.write(views.skip, self.view, to)

    def _at(self, seq: int, applied: int) -> View:
        return replace(self.view, seq=seq, applied=applied)

    def _of_interest(self, message: StoredMessage) -> Stored | None:
        task = message.subject.rpartition(".")[2]
        if message.subject == self._names.purged():
            task = ""
        elif message.subject != self._names.task(task):
            return None
        return Stored(task, message.seq, message.at, message.data)


class Keeper:
    """The part of a store that writes; of those that share a database one at a time does.

    For `patience_s` a replicated stream may seem to be another one or shorter: a leader that is none any more answers.
    """

    def __init__(self, bus: Bus, names: Subjects, database: Database, *, patience_s: float = DEPOSED_S) -> None:
        self._patience_s = patience_s
        self._bus = bus
        self._names = names
        self._database = database
        self._builder: Builder | None = None
        self._rebuilding = asyncio.Lock()
        self._group: asyncio.TaskGroup | None = None
        self._running: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._standing_by = False
        self.problem = ""

    @property
    def role(self) -> str:
        """What this process does about the view."""
        if self._rebuilding.locked():
            return "rebuilding"
        if self.holds:
            return "writing"
        return "standing by" if self._standing_by else "beginning"

    @property
    def begun(self) -> bool:
        """Whether it writes, or knows that another one does."""
        return self.holds or self._standing_by

    @property
    def holds(self) -> bool:
        """Whether this process is the one that writes."""
        return self._builder is not None

    async def ready(self) -> bool:
        """Whether there is a whole view to answer from, and no older one than this process can see to."""
        if self._builder is not None:
            return self._builder.caught_up
        if not self._standing_by:
            return False
        try:
            view = await self._database.read(views.current)
        except DatabaseUnavailable:
            return False
        return view is not None and view.complete

    async def keep(self) -> None:
        """Keeps the view up for ever, whenever nobody else does."""
        while True:
            try:
                async with self._database.locked(self._stand_by) as still:
                    self._standing_by = False
                    await self._database.write(views.prepare)
                    await self._hold(still)
            except* (Overtaken, StreamChanged) as group:
                log.info("the view is opened again", reason=str(group.exceptions[0]))
            except* MeshError as group:
                self.problem = str(group.exceptions[0])
                log.warning("the view cannot be kept up; trying again", error=self.problem)
                await asyncio.sleep(RETRY_S)

    async def moved(self, within_s: float) -> None:
        """Returns when the view has moved on in this process, or after that time."""
        news = self._news
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await news.wait()

    async def shows(self, sequence: int, within_s: float) -> bool:
        """Whether the view shows all up to there within that time."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + within_s
        while True:
            view = await self._database.read(views.current)
            if view is not None and view.shows(sequence):
                return True
            if loop.time() >= give_up:
                return False
            await self.moved(NEWS_S)

    async def check(self) -> bool:
        """Sees to it that the view comes to the end of the stream; False if this process does not write."""
        builder = self._builder
        if builder is None or builder.follow is None:
            return False
        await builder.follow.check()
        return True

    async def rebuild(self) -> View:
        """Builds the view anew while the old one is answered from; answers what has taken its place.

        Raises: MeshError, and then the old one stays.
        """
        async with self._rebuilding:
            old, group = self._builder, self._group
            if old is None or group is None:
                raise MeshError("another process writes this database")
            view = await self._database.write(views.begin, self._names.tasks, old.view.created, as_current=False)
            new = Builder(self._bus, self._names, self._database, view, self._tell)
            building = new.run()
            try:
                running = group.create_task(building)
            except RuntimeError as error:  # a group does not say beforehand that it takes nothing any more
                building.close()
                raise MeshError("the view is not kept up any more; the old one stays") from error
            try:
                while not running.done() and not await self._database.write(views.put_in_place, old.view, new.view):
                    await self.moved(RETRY_S)
            except BaseException:
                running.cancel()
                raise
            if running.done():
                raise MeshError("the new view could not be finished; the old one stays")
            before, self._running, self._builder = self._running, running, new
            if before is not None:
                before.cancel()
            await self._remove(old.view.number)
            log.info("the view was built anew", sequence=new.view.seq)
            return new.view

    async def _hold(self, still: Callable[[], Any]) -> None:
        view = await self._opened()
        try:
            async with asyncio.TaskGroup() as self._group:
                self._builder = Builder(self._bus, self._names, self._database, view, self._tell)
                self._running = self._group.create_task(self._builder.run())
                while True:
                    if not await still():
                        raise Overtaken("the lock of the database is lost")
                    if await self._database.read(views.current) is None:
                        raise Overtaken("the database is another one")
                    await asyncio.sleep(HEARTBEAT_S)
        finally:
            self._builder = self._group = self._running = None

    async def _opened(self) -> View:
        """The view to go on with; an empty one where there is none, or none that fits the stream."""
        view, stream = await self._database.read(views.current), self._names.tasks
        if view is not None and view.stream != stream:
            raise MeshError(
                f"the database is that of {view.stream}, not of {stream}", hint="give each mesh a database of its own"
            )
        facts, why = await self._fit(view)
        if view is None or why:
            if view is not None:
                log.warning("the view is built anew", reason=why, was=view.seq, now=facts.last_seq)
            view = await self._database.write(views.begin, stream, facts.created, as_current=True)
        for number in await self._database.read(views.stale):
            await self._remove(number)
        return view

    async def _fit(self, view: View | None) -> tuple[StreamFacts, str]:
        """The stream, and why the view does not fit it, once that is to be believed."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._patience_s
        said = ""
        while True:
            facts = await self._bus.stream_facts(self._names.tasks)
            why = await self._why_not(view, facts) if view is not None else ""
            if not why or facts.replicas == 1 or loop.time() >= give_up:
                return facts, why
            if why != said:
                log.info("the view waits: who answers may not be the leader any more", reason=why)
                said = why
            await asyncio.sleep(LOOK_S)

    async def _why_not(self, view: View, facts: StreamFacts) -> str:
        if facts.created != view.created:
            return "the stream is another one"
        if facts.last_seq < view.seq:
            return "the stream is shorter than it was"
        newest = await self._bus.newest(self._names.tasks, self._names.purged(), leader=True)
        if newest is not None and 0 < view.seq < rules.floor_in(newest.data, newest.seq):
            return "what was purged since is no longer said"
        return ""

    async def _remove(self, number: int) -> None:
        while True:
            if await self._database.write(views.remove_some, number):
                return

    def _stand_by(self) -> None:
        self._standing_by = True

    def _tell(self) -> None:
        self.problem = ""
        news, self._news = self._news, asyncio.Event()
        news.set()
