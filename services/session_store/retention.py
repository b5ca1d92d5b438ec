"""Purges the logs that nobody needs any more, and the objects that no log refers to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog
from msgspec import Struct
from sqlalchemy import Connection, delete, exists, insert, not_, or_, select, tuple_

from mesh.bus import Bus
from mesh.clock import Clock
from mesh.errors import MeshError
from mesh.subjects import Subjects
from schemas.instant import rfc3339
from services.session_store import views
from services.session_store.database import Database
from services.session_store.keeper import Keeper
from services.session_store.tables import contexts, forks, is_open, objects, orphans, tasks

MAX_AT_ONCE: Final = 500
SHORTEST_S: Final = 0.2
LONGEST_S: Final = 60.0
# An upload precedes the commit that refers to it; whoever puts an object again makes it young again.
OBJECT_MARGIN_S: Final = 24 * 3600.0
Position = tuple[str, str]
log = structlog.get_logger("mesh.session_store")


class Due(Struct, frozen=True):
    """Logs to purge, each up to a sequence, and where to look on; None past the last one."""

    logs: dict[str, int] = {}
    end: Position | None = None


class Retention:
    """Goes round for as long as the store serves, where logs are not kept for ever."""

    def __init__(
        self, bus: Bus, names: Subjects, database: Database, keeper: Keeper, clock: Clock, *, keep_s: float,
        margin_s: float = OBJECT_MARGIN_S,
    ) -> None:  # fmt: skip
        self._bus = bus
        self._names = names
        self._database = database
        self._keeper = keeper
        self._clock = clock
        self._keep_s = keep_s
        self._margin_s = margin_s

    async def serve(self) -> None:
        """Purges now and then, for ever."""
        pause_s = min(max(self._keep_s / 4, SHORTEST_S), LONGEST_S) if self._keep_s > 0 else LONGEST_S
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
        before = rfc3339(self._clock.now() - self._keep_s) if self._keep_s > 0 else ""
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
        """Purges these logs up to these sequences, whatever needs them.

        An id whose log another store has purged may be in use again: what was written since stays. The objects that
        only these logs refer to leave with a later round.
        """
        for task, sequence in logs.items():
            await self._bus.purge(self._names.tasks, self._names.task(task), upto=sequence)
        await self._database.write(forget, logs, self._clock.now())

    async def current(self) -> bool:
        """Whether the view shows all that the stream held a moment ago: what is missing may be what needs a log."""
        last = await self._bus.last_sequence(self._names.tasks)
        if not await self._keeper.check():
            return False
        view = await self._database.read(views.current)
        return view is not None and view.complete and view.seq >= last

    async def _remove_orphans(self) -> None:
        for digest in await self._database.read(free_orphans):
            if await self._bus.remove_object(self._names.artifacts, digest, older_than_s=self._margin_s):
                await self._database.write(drop_orphan, digest)


def due_for_purge(connection: Connection, before: str, limit: int, after: Position | None = None) -> Due:
    """Looks at so many of the tasks that ended before that time, the earliest first, from a position on.

    Those are due that no context, no tree and no fork needs.
    """
    view = views.current(connection)
    if view is None:
        return Due()
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


def forget(connection: Connection, logs: Mapping[str, int], now: float) -> None:
    """Removes tasks whose logs still end there from the current view.

    The objects that they referred to may have lost their last log.
    """
    view = views.current(connection)
    if view is None:
        return
    known_here = select(tasks.c.id, tasks.c.sequence).where(tasks.c.view == view.number, tasks.c.id.in_(logs))
    ids = [row.id for row in connection.execute(known_here) if row.sequence == logs[row.id]]
    mine = select(objects.c.digest).where(objects.c.view == view.number, objects.c.task.in_(ids)).distinct()
    known = select(orphans.c.digest)
    left = list(connection.scalars(mine.where(objects.c.digest.not_in(known))))
    if left:
        connection.execute(insert(orphans), [{"digest": digest, "since": now} for digest in left])
    views.forget(connection, view.number, ids)


def free_orphans(connection: Connection) -> list[str]:
    """Objects whose last log was purged and that no other refers to."""
    view = views.current(connection)
    if view is None:
        return []
    needed = exists().where(objects.c.view == view.number, objects.c.digest == orphans.c.digest)
    return list(
        connection.scalars(select(orphans.c.digest).where(~needed).order_by(orphans.c.since).limit(MAX_AT_ONCE))
    )


def drop_orphan(connection: Connection, digest: str) -> None:
    """The object is gone."""
    connection.execute(delete(orphans).where(orphans.c.digest == digest))
