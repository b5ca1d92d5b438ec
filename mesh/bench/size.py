"""W7: what many tasks cost: the memory of every service, and answers of the session store."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Final

from mesh.bench import stage
from mesh.bench.load import closed_loop, observer
from mesh.bench.memory import rss_mb
from mesh.bench.options import Amounts
from mesh.bench.report import Row, latencies
from mesh.bench.stage import Stage
from mesh.errors import ViewBehind
from mesh.sessions.asking import SessionStore

_OWNERS: Final = 100
_PARTS: Final = 10
_DEEP: Final = 50
_REBUILD_S: Final = 600.0
Progress = Callable[[str], None]


async def measure(store: Path | None, amounts: Amounts, progress: Progress) -> list[Row]:
    """Router, executor and session store; memory is read each time the view has caught up with the log."""
    async with stage.mesh(store, session_store=True) as on:
        growth = _Growth(on, amounts, progress)
        await growth.grow()
        progress("W7 questions")
        answers = await _answers(on, growth.ids, amounts.questions)
        progress("W7 rebuild")
        return [*growth.rows(), *answers, *await _rebuild(on)]


class _Growth:
    """The tasks, a tenth at a time, and what was seen after each."""

    def __init__(self, on: Stage, amounts: Amounts, progress: Progress) -> None:
        self.ids: list[str] = []
        self._on = on
        self._amounts = amounts
        self._progress = progress
        self._rates: list[float] = []
        self._behind_s = 0.0
        self._memory: dict[str, list[float]] = {name: [] for name in on.pids if name != "client"}

    async def grow(self) -> None:
        size, numbers = self._amounts.size, count()
        async with observer(self._on, "noop", "x") as one:

            async def owned() -> None:
                self.ids.append(await one(owner=f"acme/user{next(numbers) % _OWNERS}"))

            for part in range(1, _PARTS + 1):
                share, began = size * part // _PARTS - len(self.ids), time.perf_counter()
                await closed_loop(share, self._amounts.in_flight, owned)
                ended = time.perf_counter()
                self._rates.append(share / (ended - began))
                await _caught_up(self._on)
                self._behind_s = time.perf_counter() - ended
                self._look()

    def rows(self) -> list[Row]:
        first, last = self._rates[0], self._rates[-1]
        rate = _PARTS / sum(1 / one for one in self._rates)
        rows = [
            Row("W7 tasks", rate, "1/s", f"the first tenth {first:,.0f}/s, the last {last:,.0f}/s"),
            Row("W7 view behind the log", self._behind_s * 1e3, "ms", "after the last tenth"),
        ]
        since = self._amounts.size * (_PARTS - 1) / _PARTS
        for name, seen in self._memory.items():
            tenth, half, whole = seen[0], seen[_PARTS // 2 - 1], seen[-1]
            each = (whole - tenth) / since * 1e6
            rows += [
                Row(f"W7 memory of {name}", whole, "MB", f"10 %: {tenth:.1f}, 50 %: {half:.1f}, 100 %: {whole:.1f}"),
                Row(f"W7 memory of {name}: growth", whole - tenth, "MB", f"from 10 % on, {each:.0f} B per task"),
            ]
        return rows

    def _look(self) -> None:
        for name, seen in self._memory.items():
            seen.append(rss_mb(self._on.pids[name]))
        shown = ", ".join(f"{name} {seen[-1]:.0f}" for name, seen in self._memory.items())
        self._progress(f"  {len(self.ids):,} tasks, {self._rates[-1]:,.0f}/s; MB: {shown}")


async def _caught_up(on: Stage) -> int:
    """Returns when the view shows the whole log; the sequence of its last commit."""
    newest = await on.bus.newest(on.names.tasks, f"{on.names.prefix}.task.>", leader=True)
    assert newest
    while True:
        try:
            await on.client.tasks(limit=1, sequence=newest.seq)
        except ViewBehind:
            continue
        return newest.seq


async def _answers(on: Stage, ids: list[str], questions: int) -> list[Row]:
    client, chance = on.client, random.Random(0)
    deep = None
    for _ in range(_DEEP):
        deep = (await client.tasks(limit=100, page_token=deep)).next_page_token or deep
    asked: dict[str, Callable[[], Awaitable[object]]] = {
        "get by id": lambda: client.get(chance.choice(ids)),
        "get by the submit's sequence": lambda: client.get(chance.randrange(len(ids)) + 1),
        "list, first page of 50": client.tasks,
        f"list, page {_DEEP + 1} of 100 each": lambda: client.tasks(limit=100, page_token=deep),
        "list of an agent and a state": lambda: client.tasks(agent="noop", state="completed"),
        "list of an owner": lambda: client.tasks(owner=f"acme/user{chance.randrange(_OWNERS)}"),
        "list of failed tasks, none": lambda: client.tasks(state="failed"),
    }
    rows = []
    for name, ask in asked.items():
        seconds = []
        for _ in range(questions):
            began = time.perf_counter()
            await ask()
            seconds.append(time.perf_counter() - began)
        rows += latencies(f"W7 {name}", seconds, f"among {len(ids):,} tasks")
    return rows


async def _rebuild(on: Stage) -> list[Row]:
    commits, began = await _caught_up(on), time.perf_counter()
    async for _ in SessionStore(on.bus, on.names).rebuild(_REBUILD_S):
        pass
    seconds = time.perf_counter() - began
    memory = rss_mb(on.pids["session-store"])
    return [Row("W7 rebuild of the view", commits / seconds, "1/s", f"{commits:,} commits; {memory:.1f} MB afterwards")]
