"""A task's whole log, for whoever looks at it from outside."""

from __future__ import annotations

from typing import Final

from mesh.bus import Bus, StoredMessage
from mesh.errors import UnknownTask
from mesh.log.driver import entry_of
from mesh.log.head import Entry
from mesh.subjects import Subjects

UNKNOWN: Final = "check the id, and that a router runs; a log may have been purged"


async def read_log(bus: Bus, names: Subjects, task: str) -> list[Entry]:
    """All commits of a task, as the stream's leader has them.

    Raises: UnknownTask, BusUnavailable.
    """
    return [entry_of(message) for message in await read_messages(bus, names, task)]


async def read_messages(bus: Bus, names: Subjects, task: str) -> list[StoredMessage]:
    """The same as the stream holds them, byte for byte.

    Raises: UnknownTask, BusUnavailable.
    """
    subject = names.task(task)
    newest = await bus.newest(names.tasks, subject, leader=True)
    if newest is None:
        raise UnknownTask(f"no task '{task}' is known", hint=UNKNOWN)
    commit = entry_of(newest).commit
    stored = await bus.read(names.tasks, subject, first=commit.first or newest.seq, expected=commit.n, leader=True)
    if not stored or entry_of(stored[0]).commit.n:
        # A log that was restored from another mesh names a sequence of that one as its first.
        stored = await bus.read(names.tasks, subject, first=1, expected=commit.n, leader=True)
    return stored
