"""A closed loop of tasks: so many in flight, each followed by the next, and what one of them costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from itertools import repeat
from typing import Any, Final

from mesh.bench.report import Row
from mesh.bench.stage import Stage
from mesh.bus import LiveMessage
from schemas.ids import new_id

_ENDED: Final = b'"phase":"ended"'
_COMPLETED: Final = b'"type":"task.completed"'
OneTask = Callable[[], Awaitable[object]]


async def closed_loop(count: int, in_flight: int, one: OneTask) -> None:
    """`count` of them, never more than `in_flight` at a time."""
    tickets = iter(repeat(None, count))

    async def lane(tickets: Iterator[None]) -> None:
        for _ in tickets:
            await one()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(in_flight, count)):
            group.create_task(lane(tickets))


async def rate(on: Stage, name: str, count: int, in_flight: int, one: OneTask, noun: str = "task") -> list[Row]:
    """How many go through, and the CPU time of one in all processes and in each."""
    meter, began = on.meter(), time.perf_counter()
    await closed_loop(count, in_flight, one)
    seconds, used = time.perf_counter() - began, meter.used_s()
    rows = [
        Row(name, count / seconds, "1/s", f"{count:,} {noun}s, {in_flight} in flight"),
        Row(f"{name}: CPU", sum(used.values()) / count * 1e3, "ms", f"per {noun}, all processes"),
    ]
    return rows + [
        Row(f"{name}: CPU of {process}", spent / count * 1e3, "ms", f"{spent / seconds:.0%} of one core")
        for process, spent in used.items()
    ]


async def observed(
    on: Stage, agent: str, input: Any, name: str, count: int, in_flight: int, noun: str = "task"
) -> list[Row]:
    """`rate` of an agent's tasks, as `observer` makes them."""
    async with observer(on, agent, input) as one:
        return await rate(on, name, count, in_flight, one, noun)


@asynccontextmanager
async def observer(on: Stage, agent: str, input: Any) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """What makes one task, waits for its end and returns its id; `client.submit` takes what it is given.

    The ends are seen by one subscription to all live logs, in this process.
    """
    ends: dict[str, asyncio.Future[bool]] = {}

    def see(message: LiveMessage) -> None:
        if _ENDED in message.data:
            end = ends.pop(message.subject.rpartition(".")[2], None)
            if end is not None:
                end.set_result(_COMPLETED in message.data)

    async def one(**more: Any) -> str:
        task = new_id(int(time.time() * 1000))
        end = ends[task] = asyncio.get_running_loop().create_future()
        await on.client.submit(agent, input, task_id=task, **more)
        assert await end, f"task {task} did not complete"
        return task

    async with aclosing(await on.bus.subscribe(f"{on.names.prefix}.log.>", see)):
        yield one


async def by_result(on: Stage, agent: str, input: Any) -> None:
    """One task as a caller with a handle sees it."""
    task = await on.client.submit(agent, input)
    result = await task.result()
    assert result.state == "completed", result


async def timed_result(on: Stage, agent: str, input: Any) -> float:
    """The seconds from its submit to its result."""
    began = time.perf_counter()
    await by_result(on, agent, input)
    return time.perf_counter() - began
