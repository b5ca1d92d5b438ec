"""Keeps the view up with the log, builds another one beside it when asked to, and puts it in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any, Final

import structlog

from mesh.bus import Bus, Follow, Followed, StoredMessage
from mesh.errors import MeshError
from mesh.subjects import Subjects
from services.session_store import views
from services.session_store.database import Database, DatabaseUnavailable, DataRefused
from services.session_store.rules import Stored
from services.session_store.views import Overtaken, View

RETRY_S: Final = 1.0
HEARTBEAT_S: Final = 2.0
log = structlog.get_logger("mesh.session_store")


class StreamChanged(MeshError):
    """The stream is another one than the view was built from, or shorter."""


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
        async with aclosing(await self._bus.follow(self._names.tasks, after=self.view.seq)) as self.follow:
            while True:
                await self._apply(await self.follow.next())

    async def _apply(self, came: Followed) -> None:
        if came.created != self.view.created or came.upto < self.view.seq:
            raise StreamChanged("the stream is another one now")
        if came.upto > self.view.seq or (came.caught_up and not self.view.complete):
            messages = [one for message in came.messages if (one := self._of_a_task(message)) is not None]
            try:
                await self._move_on(messages, came.upto, complete=came.caught_up)
            except DataRefused:
                await self._one_by_one(messages)
                await self._move_on([], came.upto, complete=came.caught_up)
        if came.caught_up:
            self.caught_up = True
        self._moved()

    async def _move_on(self, messages: list[Stored], upto: int, *, complete: bool) -> None:
        self.view = await self._database.write(views.move_on, self.view, messages, upto, complete=complete)

    async def _one_by_one(self, messages: list[Stored]) -> None:
        """One message that cannot be held must not keep the others from being applied."""
        for message in messages:
            try:
                await self._move_on([message], message.seq, complete=False)
            except DataRefused as error:
                log.error("a commit is skipped", task=message.task, sequence=message.seq, error=str(error))
                self.view = await self._database.write(views.skip, self.view, message.seq)

    def _of_a_task(self, message: StoredMessage) -> Stored | None:
        task = message.subject.rpartition(".")[2]
        if message.subject != self._names.task(task):
            return None
        return Stored(task, message.seq, message.at, message.data)


class Keeper:
    """The part of a store that writes; of those that share a database one at a time does."""

    def __init__(self, bus: Bus, names: Subjects, database: Database) -> None:
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
                log.info("the view is begun again from where it stands", reason=str(group.exceptions[0]))
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
            running = group.create_task(new.run())
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
                    await asyncio.sleep(HEARTBEAT_S)
        finally:
            self._builder = self._group = self._running = None

    async def _opened(self) -> View:
        """The view to go on with; an empty one where there is none, or none of this stream."""
        stream, created = self._names.tasks, await self._bus.stream_created(self._names.tasks)
        view = await self._database.read(views.current)
        if view is not None and view.stream != stream:
            raise MeshError(
                f"the database is that of {view.stream}, not of {stream}", hint="give each mesh a database of its own"
            )
        last = await self._bus.last_sequence(stream)
        if view is None or view.created != created or view.seq > last:
            if view is not None:
                log.warning("the stream is another one, or shorter; the view is built anew", was=view.seq, now=last)
            view = await self._database.write(views.begin, stream, created, as_current=True)
        for number in await self._database.read(views.stale):
            await self._remove(number)
        return view

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
