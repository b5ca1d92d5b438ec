"""From the first signal to the end of a process that serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from mesh.runtime.interrupts import Interrupts
from mesh.service import Service

STOP_NOW_S: Final = 5.0
MAX_NAMED: Final = 5


async def serve_until_signal(
    service: Service,
    interrupts: Interrupts,
    *,
    drain_s: float,
    say: Callable[[str], None],
    started: Callable[[], None] = lambda: None,
) -> bool:
    """Serves until a signal, then drains; whether all work is done or handed back.

    The first signal takes nothing new and gives what runs `drain_s` to end; the second hands it back at once, so that
    another worker, or the next start, goes on with it; the third leaves.
    """
    serving = asyncio.create_task(service.serve(started))
    try:
        if not await interrupts.until_done(serving, count=1):
            service.stop()
            _say_draining(service.busy(), drain_s, say)
            if not await interrupts.until_done(serving, count=2, timeout_s=drain_s):
                return await _hand_back(service, serving, interrupts, say)
        await serving
        return True
    finally:
        serving.cancel()
        await asyncio.wait((serving,))


@asynccontextmanager
async def serving(service: Service, say: Callable[[str], None]) -> AsyncIterator[None]:
    """Serves while the block runs, which begins once work is taken; what is left at its end is handed back.

    Raises: what `service` raises, in an exception group; the block is cancelled then.
    """
    async with asyncio.TaskGroup() as group:
        started = asyncio.Event()
        task = group.create_task(service.serve(started.set))
        await started.wait()
        try:
            yield
        finally:
            if busy := service.busy():
                say(f"handing back {named(busy)}; whoever serves the app next goes on with it")
            service.stop_now()
            await asyncio.wait((task,), timeout=STOP_NOW_S)
            task.cancel()


async def _hand_back(
    service: Service, serving: asyncio.Task[None], interrupts: Interrupts, say: Callable[[str], None]
) -> bool:
    busy = service.busy()
    service.stop_now()
    if not await interrupts.until_done(serving, count=max(3, interrupts.count + 1), timeout_s=STOP_NOW_S):
        say(f"left without handing back {named(busy)}; whoever serves the app next takes over from the log")
        return False
    await serving
    if busy:
        say(f"handed back {named(busy)}; whoever serves the app next goes on with it")
    return True


def _say_draining(busy: list[str], drain_s: float, say: Callable[[str], None]) -> None:
    if busy:
        say(f"stopping: still at work on {named(busy)}, for {drain_s:g} s at most; Ctrl-C again stops now")
    else:
        say("stopping")


def named(tasks: list[str]) -> str:
    """Tasks as a person reads them."""
    more = f" and {len(tasks) - MAX_NAMED} more" if len(tasks) > MAX_NAMED else ""
    return f"{'task' if len(tasks) == 1 else 'tasks'} {', '.join(tasks[:MAX_NAMED])}{more}"
