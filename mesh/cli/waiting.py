"""What a task that does not move waits for, in words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from mesh.cli.notes import Notes
from mesh.cli.places import connected_bus
from mesh.cli.printer import Follower
from mesh.errors import MeshError, UnknownTask
from mesh.find import Place
from mesh.log.head import Entry
from mesh.log.reading import read_log
from mesh.registry import Registry, read_registry
from mesh.subjects import Subjects
from schemas.step import StepCompleted, StepFailed, StepRequested
from schemas.task import TaskAccepted

PATIENCE_S: Final = 3.0
LONGEST_S: Final = 60.0
NO_ROUTER: Final = "no router has taken the task yet; is one running? `mesh doctor` looks"


def waits_for(entries: Sequence[Entry], registry: Registry) -> str | None:
    """What it lacks, as its log and the workers that live tell; None where nobody is missing."""
    opening, head = entries[0].commit.events[0].data, entries[-1].commit.head
    if not isinstance(opening, TaskAccepted) or head.phase == "ended":
        return None
    pool = opening.pool
    executors = {worker.worker for worker in registry.workers_of(pool)}
    if head.phase == "runnable":
        if executors:
            return f"it waits for an executor of pool {pool}: {len(executors)} at work"
        return f"it waits: no worker serves pool {pool} now; start one with `mesh service executor`"
    if head.phase == "running" and not executors:
        gone = f"its worker {head.owner} has gone" if head.owner else "its worker has left"
        return f"it waits: {gone}, and no other serves pool {pool}; start one with `mesh service executor`"
    called = _called(entries)
    if called and not any(one.pool == pool for one in registry.of_service("tool-runner")):
        names = ", ".join(called)
        return f"it waits for {names}: nobody runs the tools of pool {pool}; start one with `mesh service tool-runner`"
    return None


async def complain(follower: Follower, notes: Notes, place: Place, names: Subjects) -> None:
    """Says what a task lacks that shows no sign of life, each thing once; looks less often as time goes by."""
    told: set[str] = set()
    pause_s, seen = PATIENCE_S, follower.cursor
    while True:
        await asyncio.sleep(pause_s)
        if follower.cursor != seen:
            pause_s, seen = PATIENCE_S, follower.cursor
            continue
        pause_s = min(2 * pause_s, LONGEST_S)
        reason = await _look(follower.id, place, names)
        if reason and reason not in told:
            told.add(reason)
            notes.warn(reason)


async def _look(id: str, place: Place, names: Subjects) -> str | None:
    """None also where the broker cannot be asked, which others say."""
    try:
        async with connected_bus(place.url, "waiting") as bus:
            return waits_for(await read_log(bus, names, id), await read_registry(bus, names))
    except UnknownTask:
        return NO_ROUTER
    except MeshError:
        return None


def _called(entries: Sequence[Entry]) -> list[str]:
    """The tools whose calls have not ended, each once."""
    called: dict[str, str] = {}
    for data in (event.data for entry in entries for event in entry.commit.events):
        if isinstance(data, StepRequested) and data.kind == "tool":
            called[data.step] = data.name
        elif isinstance(data, StepCompleted | StepFailed):
            called.pop(data.step, None)
    return list(dict.fromkeys(called.values()))
