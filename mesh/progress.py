"""Which tasks a worker holds, and for how long each has come no further.

A delivery may be held for hours in good order, so how long it is held says little. What a task does shows: each step is
a commit, and what a model says or a handler emits is a delta.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Struct

from mesh.bus import Bus
from mesh.errors import MeshError
from mesh.subjects import Subjects
from schemas.agent import WorkerRecord
from schemas.ids import is_task_id
from schemas.instant import unix
from schemas.unreadable import UNREADABLE

HOLDING_TASKS: Final = frozenset({"executor", "tool-runner"})
_UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


class HeldTask(Struct, frozen=True):
    """A task that a worker holds; `quiet_s` is how long ago its last commit or delta was stored."""

    task: str
    quiet_s: float


class _Command(Struct):
    task: str


async def held_tasks(bus: Bus, names: Subjects, worker: WorkerRecord) -> list[HeldTask]:
    """The tasks of the commands that it holds, as far as these are still in the queue; the quietest first.

    Raises: BusUnavailable.
    """
    if worker.service not in HOLDING_TASKS or not worker.held:
        return []
    now = await bus.server_time(names.work)
    tasks = {task: None for task in await asyncio.gather(*(_task(bus, names, seq) for seq in worker.held)) if task}
    moved = await asyncio.gather(*(_moved_at(bus, names, task) for task in tasks))
    found = [HeldTask(task, round(max(0.0, now - at), 1)) for task, at in zip(tasks, moved, strict=True) if at]
    return sorted(found, key=lambda one: (-one.quiet_s, one.task))


def duration(seconds: float) -> str:
    """About how long, in the largest unit that there is more than one of."""
    unit, size = next((one for one in _UNITS if seconds >= 2 * one[1]), _UNITS[-1])
    return f"{seconds // size:.0f} {unit}"


async def _task(bus: Bus, names: Subjects, seq: int) -> str:
    message = await bus.get(names.runs, seq)
    try:
        task = msgspec.json.decode(message.data, type=_Command).task if message else ""
    except UNREADABLE:
        return ""
    return task if is_task_id(task) else ""


async def _moved_at(bus: Bus, names: Subjects, task: str) -> float:
    """When its newest commit or delta was stored, by the broker; 0 where there is neither."""
    commit, delta = await bus.newest(names.tasks, names.task(task)), None
    with suppress(MeshError):  # deltas are a cache, which may be missing
        delta = await bus.newest(names.deltas, names.delta(task))
    return max((unix(one.at) for one in (commit, delta) if one), default=0.0)
