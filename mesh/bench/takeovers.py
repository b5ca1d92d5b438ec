"""W5: from `kill -9` of a worker in the middle of a step to the same step on another one."""

from __future__ import annotations

import time
from asyncio.subprocess import Process
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Final

from mesh.bench import stage
from mesh.bench.load import by_result, closed_loop
from mesh.bench.options import Amounts
from mesh.bench.report import Row, extremes
from mesh.bench.stage import Stage
from mesh.client import Task
from mesh.log.merge import TEXT
from mesh.registry import read_registry
from mesh.settings import Settings
from mesh.testing.waiting import eventually

_WARM_UP: Final = 20


async def measure(store: Path | None, amounts: Amounts, *, event: bool) -> list[Row]:
    """Each round's survivor is the victim of the next; both times are of this machine's clock."""
    rounds = amounts.takeovers if event else amounts.takeovers_by_time
    how = f"with{'' if event else 'out'} the disconnect event"
    note = "" if event else f"a delivery comes again after {Settings().ack_wait_s:.0f} s of silence"
    async with stage.mesh(store, executors=0, takeover=event) as on, AsyncExitStack() as stack:
        victim, seconds = await stack.enter_async_context(on.executor()), []
        for _ in range(rounds):
            task = await _begin(on, victim)
            other = await stack.enter_async_context(on.executor())
            await closed_loop(_WARM_UP, 2, lambda: by_result(on, "noop", "x"))
            seconds.append(await _kill(on, victim, task))
            victim = other
    return extremes(f"W5 kill -9 to the same step elsewhere, {how}", seconds, note)


async def _begin(on: Stage, victim: Process) -> Task:
    """A task in the middle of its step; the victim is the only executor there is."""
    task = await on.client.submit("survive", victim.pid)
    async with aclosing(task.tail()) as events:
        async for event in events:
            if event.type == TEXT:
                break
    return task


async def _kill(on: Stage, victim: Process, task: Task) -> float:
    """Kills it when its presence says what it holds, a tenth of a second after it was delivered."""

    async def is_listed() -> bool:
        registry = await read_registry(on.bus, on.names)
        return any(one.pid == victim.pid and len(one.replies) == 1 for one in registry.workers)

    await eventually(is_listed)
    killed_at = time.time()
    victim.kill()
    result = await task.result()
    assert result.state == "completed", result
    return float(result.output) - killed_at
