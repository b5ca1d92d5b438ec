"""Why the handler of a task is stopped before it is done, and how."""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import Any, Final

import structlog

from mesh.agents.durable import DurableRecorder
from mesh.agents.guard import Threads

STUBBORN_S: Final = 5.0
log = structlog.get_logger("mesh.executor")


class Stop(IntEnum):
    """Why a handler is stopped before it is done; a later one outranks those before it.

    `WAIT` because it waits for others alone.
    """

    WAIT = 1
    CANCEL = 2
    RELEASE = 3
    FENCED = 4


class Stopping:
    """The handler of one execution, called perhaps more than once, and the reason to stop it."""

    def __init__(self, task: str, threads: Threads) -> None:
        self.reason: Stop | None = None
        self._task = task
        self._threads = threads
        self._handler: asyncio.Task[Any] | None = None
        self._recorder: DurableRecorder | None = None
        self._stopped = asyncio.Event()

    def begin(self, handler: asyncio.Task[Any], recorder: DurableRecorder) -> None:
        """Another call of the handler, which may have to be stopped at once."""
        self._handler, self._recorder = handler, recorder
        if self.reason:
            self.stop(self.reason)

    def let_go(self) -> None:
        """This call is over: its recorder is of no use to the next one."""
        self._recorder = None

    def stop(self, reason: Stop) -> None:
        """Stops the handler, for this reason unless a higher one is there already."""
        self.reason = max(reason, self.reason or reason)
        if self._recorder:
            self._recorder.stopping = True
        if self._handler:
            self._handler.cancel()
            self._stopped.set()

    def go_on(self) -> None:
        """The reason has passed: the handler may be called again."""
        self.reason = None
        self._stopped.clear()

    async def until_done(self) -> None:
        """Waits for the handler; one that swallows its cancellation is left behind after a while, and counted."""
        handler = self._handler
        assert handler is not None
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait((handler, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        if not handler.done():
            await asyncio.wait((handler,), timeout=STUBBORN_S)
        if not handler.done():
            log.error("the handler does not stop and is left behind", task=self._task)
            self._threads.abandoned += 1
            handler.add_done_callback(self._came_back)

    def _came_back(self, handler: asyncio.Task[Any]) -> None:
        self._threads.abandoned -= 1
