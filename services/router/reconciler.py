"""Q3: finds tasks whose command or timer is not in its queue, and publishes what is missing.

A net for purges, power loss and operators. One router looks at the newest commit of every log by one short-lived
consumer, paced, at start, after each reconnect, and every few minutes; the others see that it lives on for so long that
it has done so. The queue is only read where a log waits for a command, a page at a time. A running task whose command
was lost is left to its worker while that lives, and looked at again soon: to resume it would fence a healthy owner.
A stream in memory, which no broker keeps over a restart, is made again first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec
import structlog

from mesh.bus import Bus
from mesh.errors import MeshError, NewerLog, TooLarge
from mesh.log.driver import Driver, entry_of
from mesh.log.head import View, view_of
from mesh.log.ops import Flow
from mesh.streams import Definitions
from schemas.command import Run
from schemas.unreadable import UNREADABLE
from services.router import rules
from services.router.duty import Duty

SECOND_LOOK_S: Final = 1.0
WATCHED_S: Final = 10.0
PAGE: Final = 200
RUNS: Final = ("runnable", "running")
log = structlog.get_logger("mesh.router")


class Reconciler:
    """One round at a time over all logs; `wake` asks for one now."""

    def __init__(
        self, bus: Bus, driver: Driver, router: rules.Router, duty: Duty, *, in_memory: Definitions, every_s: float
    ) -> None:
        self._bus = bus
        self._driver = driver
        self._router = router
        self._duty = duty
        self._in_memory = in_memory
        self._every_s = every_s
        self._watched_s = min(WATCHED_S, every_s)
        self._due = asyncio.Event()
        self._due.set()
        self._again_soon = False

    def wake(self) -> None:
        self._due.set()

    async def serve(self) -> None:
        """Sees for ever that rounds are made."""
        while True:
            try:
                async with asyncio.timeout(self._watched_s if self._again_soon else self._every_s):
                    await self._due.wait()
            except TimeoutError:
                pass
            self._due.clear()
            self._again_soon = False
            try:
                if not await self._is_done_elsewhere():
                    await self._round()
            except MeshError as error:
                log.warning("reconciling is put off", error=str(error))
                await self._bus.wait_connected()
                await asyncio.sleep(1.0)
                self._due.set()

    async def _is_done_elsewhere(self) -> bool:
        """Whether another router makes this round: it lives, and lives on."""
        while other := await self._duty.other():
            await asyncio.sleep(self._watched_s)
            if await self._duty.lives(other):
                return True
        return False

    async def _round(self) -> None:
        """Looks twice: what was missing on both looks, with the head unmoved, is missing."""
        for done in await self._bus.ensure(self._in_memory):
            log.warning(done)
        open_tasks = await self._open()
        await self._set_timers(open_tasks)
        suspects = await self._missing(open_tasks)
        if not suspects:
            return
        await asyncio.sleep(SECOND_LOOK_S)
        workers = set(await self._bus.keys(self._router.names.workers))
        for view in (await self._missing(await self._unmoved(suspects))).values():
            if view.head.owner in workers:
                self._again_soon = True
                continue
            log.warning("command was missing", task=view.task, phase=view.head.phase)
            await self._mend(view.task, rules.reconcile(self._router, view, in_queue=False))

    async def _mend(self, task: str, flow: Flow[None]) -> None:
        try:
            await self._driver.drive(flow)
        except (ValueError, LookupError, AttributeError, NewerLog, TooLarge) as error:
            # A log that somebody else or a later version wrote; it must not keep the others from being mended.
            log.error("a log cannot be followed", task=task, error=repr(error))

    async def _open(self) -> dict[str, View]:
        """The tasks that have not ended and wait for a command or a timer."""
        names = self._router.names
        found: dict[str, View] = {}
        async for message in self._bus.last_per_subject(names.tasks, f"{names.prefix}.task.>"):
            try:
                view = view_of(entry_of(message))
            except UNREADABLE as error:
                log.error("a log cannot be read", subject=message.subject, seq=message.seq, error=str(error))
                continue
            if view.head.phase in RUNS or rules.wants_timer(view.head):
                found[view.task] = view
        return found

    async def _unmoved(self, views: dict[str, View]) -> dict[str, View]:
        """Those of these tasks whose newest commit still is the one that was seen."""
        names, found = self._router.names, {}
        for task, view in views.items():
            newest = await self._bus.newest(names.tasks, names.task(task), leader=True)
            if newest is not None and newest.seq == view.seq:
                found[task] = view
        return found

    async def _set_timers(self, open_tasks: dict[str, View]) -> None:
        """Those that are due are about to fire or have just fired; to set one again then does no harm."""
        wanting = [view for view in open_tasks.values() if rules.wants_timer(view.head)]
        if not wanting:
            return
        prefix, cut = self._router.names.prefix, len(self._router.names.later("", "")) - 1
        timers: dict[str, set[str]] = {}
        for subject in await self._bus.counts(self._router.names.work, f"{prefix}.later.*"):
            kind, _, task = subject[cut:].partition("-")
            timers.setdefault(task, set()).add(kind)
        for view in wanting:
            await self._mend(view.task, rules.set_again(self._router, view, frozenset(timers.get(view.task, ()))))

    async def _missing(self, views: dict[str, View]) -> dict[str, View]:
        """Those of these tasks whose command is not in the queue."""
        running = {task: view for task, view in views.items() if view.head.phase in RUNS}
        if not running:
            return {}
        covers: set[tuple[str, int]] = set()
        wakes: set[tuple[str, int]] = set()
        async for seq, run in self._queued():
            if run.task in running:
                covers.add((run.task, seq))
                wakes.add((run.task, run.wake))
        return {task: view for task, view in running.items() if not _in_queue(view, covers, wakes)}

    async def _queued(self) -> AsyncIterator[tuple[int, Run]]:
        """Every run command that the queue holds, with its sequence; at most a page of them is kept in memory."""
        names, first = self._router.names, 1
        while True:
            page = await self._bus.batch(names.runs, f"{names.prefix}.run.*", first=first, count=PAGE)
            for message in page:
                if (run := _run(message.data)) is not None:
                    yield message.seq, run
            if len(page) < PAGE:
                return
            first = page[-1].seq + 1


def _in_queue(view: View, covers: set[tuple[str, int]], wakes: set[tuple[str, int]]) -> bool:
    """Whether the command that a head asks for is there: the one that covers its owner, or one for its wake."""
    if view.head.phase == "running":
        return (view.task, view.head.cover) in covers
    return (view.task, view.head.wake) in wakes


def _run(body: bytes) -> Run | None:
    try:
        return msgspec.json.decode(body, type=Run)
    except UNREADABLE:
        return None
