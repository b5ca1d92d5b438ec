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
from mesh.sessions.asking import Page, SessionStore, Talk
from schemas.envelope import VERSION
from schemas.session import ContextsRequest

_OWNERS: Final = 100
_PARTS: Final = 10
_DEEP: Final = 50
_BIG: Final = "big"
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
                number = next(numbers)
                self.ids.append(await one(owner=f"acme/user{number % _OWNERS}", context_id=_context(number)))

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


def _context(number: int) -> str | None:
    """Half of the tasks are of one conversation, a quarter of many, the others of none."""
    if number % 2:
        return _BIG
    return f"talk {number // 40}" if number % 4 else None


async def _deep(page: Callable[..., Awaitable[Page | Talk]], *given: str) -> str | None:
    """The token of a late page."""
    token = None
    for _ in range(_DEEP):
        token = (await page(*given, limit=100, page_token=token)).next_page_token or token
    return token


async def _answers(on: Stage, ids: list[str], questions: int) -> list[Row]:
    client, chance, store = on.client, random.Random(0), SessionStore(on.bus, on.names)
    deep, late = await _deep(client.tasks), await _deep(client.history, _BIG)
    asked: dict[str, Callable[[], Awaitable[object]]] = {
        "get by id": lambda: client.get(chance.choice(ids)),
        "get by the submit's sequence": lambda: client.get(chance.randrange(len(ids)) + 1),
        "list, first page of 50": client.tasks,
        f"list, page {_DEEP + 1} of 100 each": lambda: client.tasks(limit=100, page_token=deep),
        "list of an agent and a state": lambda: client.tasks(agent="noop", state="completed"),
        "list of an owner": lambda: client.tasks(owner=f"acme/user{chance.randrange(_OWNERS)}"),
        "list of failed tasks, none": lambda: client.tasks(state="failed"),
        "list of one owner in a big conversation": lambda: client.tasks(context_id=_BIG, owner="acme/user1"),
        "history of a big conversation, first page of 50": lambda: client.history(_BIG),
        f"history of a big conversation, page {_DEEP + 1} of 100 each": lambda: client.history(
            _BIG, limit=100, page_token=late
        ),
        "conversations, first page of 50": lambda: store.contexts(ContextsRequest(v=VERSION)),
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
