"""From the first signal to the end of a process that serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from mesh.runtime.garbage import spare_what_stays
from mesh.runtime.interrupts import Interrupts
from mesh.service import Service

STOP_NOW_S: Final = 3.0
GIVE_UP_S: Final = 1.0
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
    another worker, or the next start, goes on with it.
    """

    def begin() -> None:
        spare_what_stays()
        started()

    serving = asyncio.create_task(service.serve(begin))
    try:
        if not await interrupts.until_done(serving, count=1):
            service.stop()
            _say_draining(service.busy(), drain_s, say)
            if not await interrupts.until_done(serving, count=2, timeout_s=drain_s):
                return await _hand_back(service, serving, say)
        await serving
        return True
    finally:
        await _give_up(serving)


@asynccontextmanager
async def serving(service: Service, say: Callable[[str], None]) -> AsyncIterator[None]:
    """Serves while the block runs, which begins once work is taken; what is left at its end is handed back.

    Raises: what `service` raises, in an exception group; the block is cancelled then.
    """
    started = asyncio.Event()
    task = asyncio.create_task(service.serve(started.set))
    try:
        async with asyncio.TaskGroup() as group:
            failing = group.create_task(_result(task))
            await started.wait()
            try:
                yield
            finally:
                failing.cancel()
                await _hand_back(service, task, say)
    finally:
        await _give_up(task)


async def _hand_back(service: Service, serving: asyncio.Task[None], say: Callable[[str], None]) -> bool:
    busy = service.busy()
    service.stop_now()
    await asyncio.wait((serving,), timeout=STOP_NOW_S)
    if not serving.done():
        say(f"left without handing back {named(service.busy())}; whoever serves the app next takes over from the log")
        return False
    if busy:
        say(f"handed back {named(busy)}; whoever serves the app next goes on with it")
    return True


async def _result(task: asyncio.Task[None]) -> None:
    await asyncio.wait((task,))
    task.result()


async def _give_up(task: asyncio.Task[None]) -> None:
    """Cancels, but does not wait for ever: a handler may swallow that."""
    task.cancel()
    await asyncio.wait((task,), timeout=GIVE_UP_S)


def _say_draining(busy: list[str], drain_s: float, say: Callable[[str], None]) -> None:
    if busy:
        say(f"stopping: still at work on {named(busy)}, for {drain_s:g} s at most; Ctrl-C again stops now")
    else:
        say("stopping")


def named(tasks: list[str]) -> str:
    """Tasks as a person reads them."""
    more = f" and {len(tasks) - MAX_NAMED} more" if len(tasks) > MAX_NAMED else ""
    return f"{'task' if len(tasks) == 1 else 'tasks'} {', '.join(tasks[:MAX_NAMED])}{more}"
