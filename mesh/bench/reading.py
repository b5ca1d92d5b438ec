"""W6: reading back one long log among many short ones."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from mesh.bench import stage
from mesh.bench.options import Amounts
from mesh.bench.report import Row, percentile
from mesh.bench.stage import Stage
from mesh.log.driver import entry_of


async def measure(store: Path | None, amounts: Amounts) -> list[Row]:
    """A log of two events per commit, then one of twice as many commits; other tasks run while both grow."""
    async with stage.mesh(store) as on:
        short = await on.client.submit("steps", amounts.log_events // 2)
        long = await on.client.submit("steps", amounts.log_events)
        for _ in range(amounts.other_tasks // 10):
            await asyncio.gather(*[_other(on) for _ in range(10)])
        await asyncio.gather(short.result(), long.result())
        return await _read(on, short.id, amounts.reads) + await _read(on, long.id, amounts.reads)


async def _other(on: Stage) -> None:
    await (await on.client.submit("noop", "x")).result()


async def _read(on: Stage, task: str, reads: int) -> list[Row]:
    subject = on.names.task(task)
    newest = await on.bus.newest(on.names.tasks, subject, leader=True)
    assert newest
    commit = entry_of(newest).commit
    tails, raw, events = [], [], 0
    for _ in range(reads):
        began = time.perf_counter()
        events = len([event async for event in on.client.tail(task)])
        tails.append(time.perf_counter() - began)
        began = time.perf_counter()
        messages = await on.bus.read(on.names.tasks, subject, first=commit.first, expected=commit.n + 1)
        raw.append(time.perf_counter() - began)
        assert len(messages) == commit.n + 1, "the log is not whole"
    tail, read, commits = percentile(tails, 0.5), percentile(raw, 0.5), commit.n + 1
    name = f"W6 {events:,} events in {commits:,} commits"
    return [
        Row(f"{name}, by a tail", tail * 1e3, "ms", f"median of {reads}"),
        Row(f"{name}, by a tail: rate", events / tail, "1/s", "events"),
        Row(f"{name}, by Bus.read", read * 1e3, "ms", "not decoded"),
        Row(f"{name}, by Bus.read: rate", commits / read, "1/s", "commits"),
    ]
