"""Why the handler of a task is stopped before it is done, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from enum import IntEnum
from typing import Any, Final, NamedTuple, TypeVar

import structlog

from mesh.agents.durable import DurableRecorder
from mesh.agents.guard import Threads
from mesh.agents.replay import Replay

# Together less than the grace of a cancel, after which a router ends the task.
PASSING_S: Final = 1.0
STUBBORN_S: Final = 5.0
T = TypeVar("T")
log = structlog.get_logger("mesh.executor")


class Stop(IntEnum):
    """Why a handler is stopped before it is done; a later one outranks those before it.

    `WAIT` because it waits for others alone.
    """

    WAIT = 1
    CANCEL = 2
    RELEASE = 3
    FENCED = 4


class Stopped(Exception):
    """There is a reason to stop before the handler is called."""


class Stopping:
    """The handler of one execution, called perhaps more than once, and the reason to stop it.

    A cancel reaches a handler that was called again once that has come through what its log holds: where it waits, so
    that it can clean up what it has begun (X1). `cut` is the reason that the handler was told.
    """

    def __init__(self, task: str, threads: Threads) -> None:
        self.reason: Stop | None = None
        self.cut: Stop | None = None
        self._task = task
        self._threads = threads
        self._call: _Call | None = None
        self._stopped = asyncio.Event()

    def begin(self, handler: asyncio.Task[Any], replay: Replay, recorder: DurableRecorder) -> None:
        """Another call of the handler, which may have to be stopped at once."""
        self.cut = None
        self._call = _Call(handler, replay, recorder)
        if self.reason:
            self.stop(self.reason)

    def let_go(self) -> None:
        """This call is over."""
        self._call = None

    def stop(self, reason: Stop) -> None:
        """Stops the handler, for this reason unless a higher one is there already."""
        self.reason = max(reason, self.reason or reason)
        self._stopped.set()
        if self._call and (self.reason is not Stop.CANCEL or self._call.replay.caught_up):
            self._cut_off(self._call, self.reason)

    def go_on(self) -> None:
        """The reason has passed: the handler may be called again."""
        self.reason = None
        self._stopped.clear()

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of this; raises Stopped if there is a reason to stop long before it is done.

        A handler that is to be told of a cancel is called first, where that is possible (X1).
        """
        doing = asyncio.ensure_future(work)
        try:
            await _first(doing, self._stopped.wait())
            if self.reason is Stop.CANCEL:
                await asyncio.wait((doing,), timeout=PASSING_S)
            if not doing.done():
                raise Stopped
            return doing.result()
        finally:
            doing.cancel()

    async def until_done(self) -> None:
        """Waits for the handler; one that swallows its cancellation is left behind after a while, and counted."""
        call = self._call
        assert call is not None
        handler = call.handler
        await _first(handler, self._stopped.wait())
        if not handler.done() and self.cut is None:
            await _first(handler, call.replay.until_caught_up(), timeout_s=PASSING_S)
            self._cut_off(call, Stop.CANCEL)
        if not handler.done():
            await asyncio.wait((handler,), timeout=STUBBORN_S)
        if not handler.done():
            log.error("the handler does not stop and is left behind", task=self._task)
            self._threads.abandoned += 1
            handler.add_done_callback(self._came_back)

    def _cut_off(self, call: _Call, reason: Stop) -> None:
        """Cancels the handler; its clean-up is cut in turn only if there is no time for it any more."""
        if self.cut is None or reason > max(self.cut, Stop.CANCEL):
            self.cut = reason
            call.recorder.stop(canceled=reason is Stop.CANCEL)
            call.handler.cancel()

    def _came_back(self, handler: asyncio.Task[Any]) -> None:
        self._threads.abandoned -= 1


class _Call(NamedTuple):
    """One call of the handler, which is under way."""

    handler: asyncio.Task[Any]
    replay: Replay
    recorder: DurableRecorder


async def _first(one: asyncio.Task[Any], other: Coroutine[Any, Any, object], timeout_s: float | None = None) -> None:
    """Waits for either; the other one is given up."""
    beside = asyncio.ensure_future(other)
    try:
        await asyncio.wait((one, beside), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        beside.cancel()
