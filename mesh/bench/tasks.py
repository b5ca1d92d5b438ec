"""W1: tasks that do nothing, as many as go through, and one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mesh.bench import stage
from mesh.bench.load import by_result, closed_loop, observed, rate, timed_result
from mesh.bench.options import Amounts
from mesh.bench.report import Row, latencies
from mesh.bench.stage import Stage

_NOOP = ("noop", "x")
_NAMES: Final = {stage.DEFAULT: "W1", stage.FLUSHED: "W1 flushed", stage.CLUSTER: "W1 cluster"}


async def measure(store: Path | None, amounts: Amounts, durability: str, executors: int) -> list[Row]:
    """Tasks per second and their CPU time; with one executor also what a caller with handles sees."""
    what = _NAMES[durability]
    count = amounts.tasks if durability == stage.DEFAULT else amounts.flushed_tasks
    served = f"{executors} executor{'s' if executors > 1 else ''}"
    async with stage.mesh(store, durability=durability, executors=executors) as on:
        await closed_loop(amounts.warm_up, amounts.in_flight, lambda: _by_result(on))
        rows = await observed(on, *_NOOP, f"{what} tasks, {served}", count, amounts.in_flight)
        if executors == 1:
            name = f"{what} tasks by result(), {served}"
            rows += await rate(on, name, count // 3, amounts.in_flight, lambda: _by_result(on))
            seconds = [await timed_result(on, *_NOOP) for _ in range(amounts.latencies)]
            rows += latencies(
                f"{what} submit to result, {served}", seconds, "one in flight, client.submit and result()"
            )
    return rows


async def _by_result(on: Stage) -> None:
    await by_result(on, *_NOOP)
