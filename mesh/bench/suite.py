"""All workloads in their order."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final

from mesh.bench import broker, cancels, reading, size, stage, takeovers, tasks, text, turns
from mesh.bench.options import WORKLOADS, BenchOptions
from mesh.bench.report import Report, Row
from mesh.bus import Bus
from mesh.errors import InvalidInput, ServerError
from mesh.runtime.loop import run_on_loop

LIMIT_S: Final = 180.0
SLOWEST: Final = 100.0
Measure = Callable[[], Awaitable[list[Row]]]


async def bench(options: BenchOptions) -> Report:
    """Measures what the options name; every process it starts has ended on return.

    Raises: InvalidInput for a workload that there is not; ServerError if broker or services cannot be started, or if
    one workload takes minutes: something does not work then, and its speed is no question.
    """
    unknown = sorted(set(options.only) - set(WORKLOADS))
    if unknown:
        raise InvalidInput(f"there is no workload '{unknown[0]}'", hint=f"there are {', '.join(WORKLOADS)}")
    machine = await _machine(options)
    rows: list[Row] = []
    limit_s = LIMIT_S + options.amounts.size / SLOWEST
    for name, what, measure in _measures(options):
        if name in options.only:
            options.progress(what)
            rows += await _within_limit(what, measure, limit_s)
    return Report(machine=machine, rows=tuple(rows))


def run(options: BenchOptions) -> Report:
    """`bench` on an event loop of its own."""
    return run_on_loop(bench(options))


async def _within_limit(what: str, measure: Measure, limit_s: float) -> list[Row]:
    try:
        async with asyncio.timeout(limit_s):
            return await measure()
    except TimeoutError:
        raise ServerError(f"{what}: not done after {limit_s:.0f} s", hint="does `mesh run` work here?") from None


def _measures(options: BenchOptions) -> Iterator[tuple[str, str, Measure]]:
    store, amounts = options.store, options.amounts
    modes = ((stage.DEFAULT, ""), (stage.FLUSHED, ", every write flushed"))
    for durability, said in modes:
        yield "broker", f"the broker alone{said}", partial(broker.measure, store, amounts, durability)
    for durability, said in modes:
        for executors in (1, 2):
            yield (
                "w1",
                f"W1 tasks, executors: {executors}{said}",
                partial(tasks.measure, store, amounts, durability, executors),
            )
    on_three = partial(tasks.measure, store, amounts, stage.CLUSTER, 1)
    yield "w1", "W1 tasks, a cluster of three servers, every write flushed", on_three
    yield "w2", "W2 turns of an agent", partial(turns.measure, store, amounts)
    yield "w2h", "W2h turns over HTTP", partial(turns.measure_http, store, amounts)
    yield "w3", "W3 streamed text", partial(text.measure, store, amounts)
    yield "w4", "W4 cancel", partial(cancels.measure, store, amounts)
    for event, how in ((True, "with the disconnect event"), (False, "without it")):
        yield "w5", f"W5 takeover {how}", partial(takeovers.measure, store, amounts, event=event)
    yield "w6", "W6 reading back", partial(reading.measure, store, amounts)
    yield "w7", f"W7 {amounts.size:,} tasks", partial(size.measure, store, amounts, options.progress)


async def _machine(options: BenchOptions) -> dict[str, str]:
    async with stage.broker(options.store, stage.DEFAULT) as server:
        bus = await Bus.connect(server.url, name="bench")
        try:
            version = (await bus.server_info())["version"]
        finally:
            await bus.aclose()
    return {
        "nats-server": str(version),
        "Python": platform.python_version(),
        "cores": str(os.cpu_count()),
        "on": platform.platform(),
    }
