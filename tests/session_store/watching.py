"""Holds what a store answers, and what its rows are, against the log itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import select

from mesh.bus import Bus
from mesh.errors import BusUnavailable
from mesh.log.driver import entry_of
from mesh.log.head import Entry
from mesh.sessions import Page, SessionStore
from mesh.subjects import Subjects
from mesh.testing import eventually
from schemas.session import MAX_LIMIT, TasksRequest
from services.session_store.database import Database
from services.session_store.tables import bodies, forks, objects, tasks, views

Shown = dict[str, tuple[str, str, int, int]]


async def whole_log(bus: Bus, names: Subjects) -> list[Entry]:
    """Every commit of every task, in the order of the stream."""
    found: list[Entry] = []
    first = 1
    while batch := await bus.batch(names.tasks, f"{names.prefix}.task.>", first=first, count=1000):
        found += [entry_of(message) for message in batch]
        first = batch[-1].seq + 1
    return found


def shown_at(log: Iterable[Entry], sequence: int) -> Shown:
    """Each task as a list should show it that includes the log up to there; written without the store's own fold."""
    shown: Shown = {}
    states = {"task.accepted": "submitted", "task.started": "working"}
    for entry in log:
        if entry.seq <= sequence:
            state = shown.get(entry.commit.task, ("", "", 0, 0))[0]
            for event in entry.commit.events:
                ended = event.type.removeprefix("task.") if entry.commit.head.phase == "ended" else state
                state = states.get(event.type, ended)
            shown[entry.commit.task] = (state, entry.commit.head.phase, entry.commit.n + 1, entry.seq)
    return shown


class Watcher:
    """Asks for the whole list again and again; at most 100 tasks, so that one page is all of it."""

    def __init__(self, bus: Bus, names: Subjects) -> None:
        self.answers: list[Page] = []
        self._bus = bus
        self._store = SessionStore(bus, names)
        self._names = names

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Asks while the block runs."""
        asking = asyncio.create_task(self._ask())
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.wait((asking,))
        assert asking.cancelled()

    async def hears(self, count: int) -> None:
        """Returns after so many more answers."""
        there = len(self.answers)
        await eventually(lambda: len(self.answers) >= there + count, 30.0)

    async def check(self) -> None:
        """Every answer showed what the log holds up to its sequence, and nothing else."""
        log = await whole_log(self._bus, self._names)
        assert self.answers
        for answer in self.answers:
            assert answer.next_page_token is None
            told = {one.id: (one.state, one.phase, one.commits, one.sequence) for one in answer.tasks}
            assert told == shown_at(log, answer.sequence), f"at sequence {answer.sequence}"

    async def _ask(self) -> None:
        while True:
            try:
                self.answers.append(await self._store.tasks(TasksRequest(v=1, limit=MAX_LIMIT, wait_s=1.0)))
            except BusUnavailable:
                await asyncio.sleep(0.02)


async def all_rows(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that the view of a database holds, but for its number."""

    def read(connection: Any) -> dict[str, list[tuple[Any, ...]]]:
        number = connection.scalar(select(views.c.view).where(views.c.current))
        assert number is not None
        found = {
            table.name: sorted(
                tuple(row)
                for row in connection.execute(
                    select(*[column for column in table.c if column.name != "view"]).where(table.c.view == number)
                )
            )
            for table in (tasks, bodies, objects, forks)
        }
        counts = select(views.c.seq, views.c.skipped, views.c.unknown).where(views.c.view == number)
        return found | {"counts": [tuple(row) for row in connection.execute(counts)]}

    database = Database(url)
    try:
        return await database.read(read)
    finally:
        await database.aclose()
