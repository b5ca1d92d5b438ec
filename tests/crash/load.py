"""Many tasks at once, their callers and readers, while everything under them dies and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

from mesh import BusUnavailable, Client, Result, TaskEvent, UnknownTask
from mesh.testing import LocalMesh, Processes, assert_invariants, assert_tail, eventually, show_log
from mesh.testing.crash_checks import repeated_steps
from schemas.task import TERMINAL

EVENTS_PER_TAIL = 4
END_S = 45.0
DISTURBED_S = 20.0


class Load:
    """Tasks of one agent; `results` grows as they end, `tails` holds those that somebody reads."""

    def __init__(self, client: Client, agent: str, input: Any, *, tasks: int, tails: int, name: str = "task") -> None:
        self.results: dict[str, Result] = {}
        self.tails: dict[str, list[TaskEvent]] = {f"{name}{n}": [] for n in range(tails)}
        self.ids = [f"{name}{n}" for n in range(tasks)]
        self._client = client
        self._agent = agent
        self._input = input
        self._ended = asyncio.Condition()

    async def run(self) -> None:
        """Returns when every task has ended, and every reader knows."""
        async with asyncio.TaskGroup() as group:
            for id in self.ids:
                group.create_task(self._call(id))
            for id in self.tails:
                group.create_task(self._read(id))

    async def ended(self, count: int) -> None:
        """Returns when that many tasks have ended."""
        async with self._ended:
            await self._ended.wait_for(lambda: len(self.results) >= count)

    async def _call(self, id: str) -> None:
        task = await eventually(
            lambda: self._client.submit(self._agent, self._input, task_id=id), 60, forgive=BusUnavailable
        )
        result = await eventually(task.result, 60, forgive=BusUnavailable)
        async with self._ended:
            self.results[id] = result
            self._ended.notify_all()

    async def _read(self, id: str) -> None:
        """Leaves after a few events, or when the broker does, and comes back with the cursor.

        While routers die, a task is unknown for longer than a reader by id waits.
        """
        seen = self.tails[id]
        while not seen or seen[-1].type not in TERMINAL:
            with suppress(UnknownTask):
                await eventually(lambda: self._read_some(id, seen), 60, forgive=BusUnavailable)

    async def _read_some(self, id: str, seen: list[TaskEvent]) -> None:
        async with aclosing(self._client.task(id).tail(seen[-1].cursor if seen else None)) as events:
            for _ in range(EVENTS_PER_TAIL):
                event = await anext(events, None)
                if event is None:
                    return
                seen.append(event)


async def assert_ends(
    load: Load, mesh: LocalMesh, processes: Processes, *disturbing: Coroutine[Any, Any, None]
) -> None:
    """Runs the load beside what disturbs it; if it does not end, says what it waits for."""
    async with asyncio.TaskGroup() as group:
        disturbances = [group.create_task(one) for one in disturbing]
        running = group.create_task(load.run())
        await asyncio.wait((running,), timeout=END_S)
        if not running.done():
            raise AssertionError("\n".join(await _waiting_for(load, mesh, processes)))
        if disturbances:
            # What they took down has to be up again. Who waits for a death that no task brings any more is let go.
            await asyncio.wait(disturbances, timeout=DISTURBED_S)
        for disturbance in disturbances:
            disturbance.cancel()


async def _waiting_for(load: Load, mesh: LocalMesh, processes: Processes) -> list[str]:
    lines = [f"{len(load.results)} of {len(load.ids)} tasks have ended"]
    lines.append(f"in the queue: {await mesh.left_in_queue()}")
    for id in [id for id in load.ids if id not in load.results][:3]:
        newest = await mesh.bus.newest(mesh.names.tasks, mesh.names.task(id), leader=True)
        lines.append(f"{id}: {show_log(await mesh.log(id)) if newest else 'has no log'}")
    unread = [id for id, events in load.tails.items() if not events or events[-1].type not in TERMINAL]
    lines.append(f"tails that wait: {unread}")
    return lines + [f"{one} said:\n{one.said()}" for one in processes.running]


async def assert_nothing_lost(load: Load, mesh: LocalMesh, processes: Processes, output: Any) -> None:
    """Every task ended once and well, every log and tail is right, no committed step was made again."""
    trace = processes.read_trace()
    for id in load.ids:
        entries = await eventually(partial(mesh.log, id), forgive=BusUnavailable)
        assert_invariants(entries)
        assert (load.results[id].state, load.results[id].output) == ("completed", output), load.results[id]
        repeated = list(repeated_steps(trace, entries))
        assert not repeated, "\n".join([id, *repeated, show_log(entries)])
    for id, events in load.tails.items():
        assert_tail(events, await mesh.log(id))

    async def queue_is_empty() -> None:
        assert not await mesh.left_in_queue()

    await eventually(queue_is_empty, forgive=BusUnavailable)
