"""Purges the logs that nobody needs any more, and the objects that no log refers to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import msgspec
import structlog
from msgspec import Struct
from sqlalchemy import Connection, delete, exists, not_, or_, select, tuple_

from mesh.bus import Bus, Conflict, StoredMessage
from mesh.errors import MeshError, ViewBehind
from mesh.subjects import Subjects
from schemas.envelope import VERSION
from schemas.instant import rfc3339, unix
from schemas.purge import LogsPurged
from services.session_store import rules, views
from services.session_store.database import Database
from services.session_store.keeper import Keeper
from services.session_store.tables import contexts, forks, is_open, objects, orphans, tasks

MAX_AT_ONCE: Final = 500
SHORTEST_S: Final = 0.2
LONGEST_S: Final = 60.0
SHOWN_S: Final = 10.0
CURRENT_S: Final = 1.0
AGAIN_S: Final = 0.1
MAX_PRUNED: Final = 20
Position = tuple[str, str]
log = structlog.get_logger("mesh.session_store")


class Ages(Struct, frozen=True, kw_only=True):
    """How old what is removed has to be, in seconds: ended logs (0: never), and what follows from their end.

    An object is left alone for `object_s` after it was put, because an upload precedes the commit that refers to it,
    and for `orphan_s` after its last log was purged, because somebody may just hand it on. What the stream says about
    purged logs is kept for `said_s`; a store that was away for longer builds its view anew.
    """

    keep_s: float = 0.0
    object_s: float = 24 * 3600.0
    orphan_s: float = 3600.0
    said_s: float = 30 * 24 * 3600.0


class Due(Struct, frozen=True):
    """Logs to purge, each up to a sequence, and where to look on; None past the last one."""

    logs: dict[str, int] = {}
    end: Position | None = None


class Retention:
    """Goes round for as long as the store serves, where logs are not kept for ever.

    Their age is told by the broker, which also said when they ended: a wrong clock here would purge them too early.
    """

    def __init__(
        self, bus: Bus, names: Subjects, database: Database, keeper: Keeper, ages: Ages,
        now: Callable[[], Awaitable[float]] | None = None,
    ) -> None:  # fmt: skip
        self._bus = bus
        self._names = names
        self._database = database
        self._keeper = keeper
        self._ages = ages
        self._now = now or partial(bus.server_time, names.tasks)

    async def serve(self) -> None:
        """Purges now and then, for ever."""
        keep_s = self._ages.keep_s
        pause_s = min(max(keep_s / 4, SHORTEST_S), LONGEST_S) if keep_s > 0 else LONGEST_S
        while True:
            await asyncio.sleep(pause_s)
            try:
                await self.go_round()
            except MeshError as error:
                log.warning("purging is put off", error=str(error))

    async def go_round(self) -> int:
        """Purges what is due now; answers how many logs that was."""
        purged = 0
        if not await self.current():
            return purged
        before = rfc3339(max(0.0, await self._now() - self._ages.keep_s)) if self._ages.keep_s > 0 else ""
        looked = Due({}, ("", ""))
        while looked.end is not None:
            looked = await self._database.read(due_for_purge, before, MAX_AT_ONCE, looked.end)
            if looked.logs:
                await self.purge(looked.logs)
                purged += len(looked.logs)
                log.info("logs purged", count=len(looked.logs), ended_before=before)
        await self._remove_orphans()
        return purged

    async def purge(self, logs: Mapping[str, int]) -> None:
        """Purges these logs up to these sequences, whatever needs them, and returns when this view has forgotten them.

        An id whose log another store has purged may be in use again: what was written since stays. Who is killed in
        between repeats all of it. The objects that only these logs refer to leave with a later round.

        Raises: BusUnavailable, or ViewBehind: repeat it.
        """
        tasks = sorted(logs)
        for start in range(0, len(tasks), MAX_AT_ONCE):
            some = {task: logs[task] for task in tasks[start : start + MAX_AT_ONCE]}
            for task, sequence in some.items():
                await self._bus.purge(self._names.tasks, self._names.task(task), upto=sequence)
            said_at = await self._say(some)
            if not await self._keeper.shows(said_at, SHOWN_S):
                raise ViewBehind(f"logs are purged, and the view does not show that yet: {said_at}", hint="repeat it")

    async def _say(self, logs: Mapping[str, int]) -> int:
        """Appends to the stream that these logs are gone, where every view comes by; answers at which sequence."""
        stream, subject = self._names.tasks, self._names.purged()
        while True:
            newest = await self._bus.newest(stream, subject, leader=True)
            floor = await self._floor(newest) if newest is not None else 0
            said = LogsPurged(v=VERSION, by=self._bus.name, logs=dict(logs), floor=floor)
            stored = await self._bus.append(
                subject, msgspec.json.encode(said), expected=newest.seq if newest is not None else 0
            )
            if not isinstance(stored, Conflict):
                # It stands there first that they are gone, or a view that needs them would not hear of it.
                if floor:
                    await self._bus.purge(stream, subject, upto=floor)
                return stored
            # Another store was first, or who answers does not lead any more and may say so for a while.
            await asyncio.sleep(AGAIN_S)

    async def _floor(self, newest: StoredMessage) -> int:
        """Up to where such messages are old enough to leave, some at a time."""
        old = unix(newest.at) - self._ages.said_s
        some = await self._bus.batch(self._names.tasks, newest.subject, first=1, count=MAX_PRUNED)
        leaving = [one.seq for one in some if unix(one.at) <= old]
        return max([rules.floor_in(newest.data, newest.seq), *leaving])

    async def current(self) -> bool:
        """Whether the view shows all that the stream held a moment ago: what is missing may be what needs a log."""
        last = await self._bus.last_sequence(self._names.tasks)
        return await self._keeper.check() and await self._keeper.shows(last, CURRENT_S)

    async def _remove_orphans(self) -> None:
        since = await self._bus.server_time(self._names.tasks) - self._ages.orphan_s
        for digest in await self._database.read(free_orphans, since):
            if await self._bus.remove_object(self._names.artifacts, digest, older_than_s=self._ages.object_s):
                await self._database.write(drop_orphan, digest)


def due_for_purge(connection: Connection, before: str, limit: int, after: Position | None = None) -> Due:
    """Looks at so many of the tasks that ended before that time, the earliest first, from a position on.

    Those are due that no context, no tree and no fork needs.
    """
    view = views.answering(connection)
    other = tasks.alias("other")
    context = exists().where(
        contexts.c.view == view.number, contexts.c.context_id == tasks.c.context_id,
        or_(contexts.c.open > 0, contexts.c.status_at >= before),
    )  # fmt: skip
    tree = exists().where(other.c.view == view.number, other.c.root == tasks.c.root, is_open(other))
    forked = exists().where(forks.c.view == view.number, forks.c.origin == tasks.c.id)
    query = select(tasks.c.id, tasks.c.sequence, tasks.c.status_at, or_(context, tree, forked).label("needed"))
    query = query.where(tasks.c.view == view.number, tasks.c.status_at < before, not_(is_open(tasks)))
    if after is not None:
        query = query.where(tuple_(tasks.c.status_at, tasks.c.id) > tuple_(*after))
    rows = connection.execute(query.order_by(tasks.c.status_at, tasks.c.id).limit(limit)).all()
    end = (rows[-1].status_at, rows[-1].id) if len(rows) == limit else None
    return Due({row.id: row.sequence for row in rows if not row.needed}, end)


def free_orphans(connection: Connection, since: float) -> list[str]:
    """Objects whose last log was purged then at the latest, and that no other refers to."""
    view = views.answering(connection)
    needed = exists().where(objects.c.view == view.number, objects.c.digest == orphans.c.digest)
    free = select(orphans.c.digest).where(orphans.c.since <= since, ~needed)
    return list(connection.scalars(free.order_by(orphans.c.since).limit(MAX_AT_ONCE)))


def drop_orphan(connection: Connection, digest: str) -> None:
    """The object is gone."""
    connection.execute(delete(orphans).where(orphans.c.digest == digest))
