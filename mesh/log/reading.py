"""A task's whole log, for whoever looks at it from outside."""

from __future__ import annotations

from mesh.bus import Bus
from mesh.errors import UnknownTask
from mesh.log.driver import entry_of
from mesh.log.head import Entry
from mesh.subjects import Subjects


async def read_log(bus: Bus, names: Subjects, task: str) -> list[Entry]:
    """All commits of a task, as the stream's leader has them.

    Raises: UnknownTask, BusUnavailable.
    """
    subject = names.task(task)
    newest = await bus.newest(names.tasks, subject, leader=True)
    if newest is None:
        raise UnknownTask(f"no task '{task}' is known", hint="check the id; a log is purged some days after its end")
    commit = entry_of(newest).commit
    stored = await bus.read(names.tasks, subject, first=commit.first or newest.seq, expected=commit.n, leader=True)
    return [entry_of(message) for message in stored]
