"""W1: tasks that do nothing, as many as go through, and one at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from itertools import repeat
from pathlib import Path
from typing import Final

from mesh.bench import stage
from mesh.bench.options import Amounts
from mesh.bench.report import Row, latencies
from mesh.bench.stage import Stage
from mesh.bus import LiveMessage
from schemas.ids import new_id

_ENDED: Final = b'"phase":"ended"'
OneTask = Callable[[], Awaitable[None]]


async def measure(store: Path | None, amounts: Amounts, durability: str, executors: int) -> list[Row]:
    """Tasks per second and their CPU time; with one executor also what a caller with handles sees."""
    what = f"W1{' flushed' if durability == stage.FLUSHED else ''}"
    count = amounts.flushed_tasks if durability == stage.FLUSHED else amounts.tasks
    served = f"{executors} executor{'s' if executors > 1 else ''}"
    async with stage.mesh(store, durability=durability, executors=executors) as on:
        await _closed_loop(amounts.warm_up, amounts.in_flight, lambda: _by_result(on))
        rows = await _observed(on, f"{what} tasks, {served}", count, amounts.in_flight)
        if executors == 1:
            rows += await _awaited(on, f"{what} tasks by result(), {served}", count // 3, amounts.in_flight)
            seconds = [await _timed_result(on) for _ in range(amounts.latencies)]
            rows += latencies(
                f"{what} submit to result, {served}", seconds, "one in flight, client.submit and result()"
            )
    return rows


async def _observed(on: Stage, name: str, count: int, in_flight: int) -> list[Row]:
    """The end of a task is seen by one subscription to all live logs, in the client process."""
    ends: dict[str, asyncio.Future[None]] = {}

    def see(message: LiveMessage) -> None:
        if _ENDED in message.data:
            end = ends.pop(message.subject.rpartition(".")[2], None)
            if end is not None:
                end.set_result(None)

    async def one() -> None:
        task = new_id(int(time.time() * 1000))
        end = ends[task] = asyncio.get_running_loop().create_future()
        await on.client.submit("noop", "x", task_id=task)
        await end

    async with aclosing(await on.bus.subscribe(f"{on.names.prefix}.log.>", see)):
        return await _rate(on, name, count, in_flight, one)


async def _awaited(on: Stage, name: str, count: int, in_flight: int) -> list[Row]:
    return await _rate(on, name, count, in_flight, lambda: _by_result(on))


async def _rate(on: Stage, name: str, count: int, in_flight: int, one: OneTask) -> list[Row]:
    meter, began = on.meter(), time.perf_counter()
    await _closed_loop(count, in_flight, one)
    seconds, used = time.perf_counter() - began, meter.used_s()
    rows = [
        Row(name, count / seconds, "1/s", f"{count:,} tasks, {in_flight} in flight"),
        Row(f"{name}: CPU", sum(used.values()) / count * 1e3, "ms", "per task, all processes"),
    ]
    return rows + [
        Row(f"{name}: CPU of {process}", spent / count * 1e3, "ms", f"{spent / seconds:.0%} of one core")
        for process, spent in used.items()
    ]


async def _closed_loop(count: int, in_flight: int, one: OneTask) -> None:
    tickets = iter(repeat(None, count))

    async def lane(tickets: Iterator[None]) -> None:
        for _ in tickets:
            await one()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(in_flight, count)):
            group.create_task(lane(tickets))


async def _by_result(on: Stage) -> None:
    task = await on.client.submit("noop", "x")
    result = await task.result()
    assert result.state == "completed", result


async def _timed_result(on: Stage) -> float:
    began = time.perf_counter()
    await _by_result(on)
    return time.perf_counter() - began
