"""Ctrl-C and SIGTERM, counted: the first asks, the second insists, the third ends the process."""

from __future__ import annotations

import asyncio
import os
import signal
from types import FrameType
from typing import Any, Final, Self

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
LAST: Final = 3
LEFT: Final = 130


class Interrupts:
    """Takes both signals while it is entered.

    They are taken by Python's own handlers, not by the loop's, so that the third one works even while a handler of the
    user's blocks the loop. What is left behind then, the log and the watchdog of the embedded server put right.
    """

    def __init__(self) -> None:
        self.count = 0
        self.terminated = False
        self._changed = asyncio.Event()
        self._victim: asyncio.Task[Any] | None = None
        self._before: dict[signal.Signals, Any] = {}

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._before = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    async def __aexit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    async def wait(self, count: int) -> None:
        """Returns once `count` signals have come."""
        while self.count < count:
            await self._changed.wait()

    async def until_done(self, task: asyncio.Task[Any], *, count: int, timeout_s: float | None = None) -> bool:
        """Waits for a task, for `count` signals or for the time; whether the task is done."""
        waiting = asyncio.create_task(self.wait(count))
        try:
            await asyncio.wait((task, waiting), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        return task.done()

    def cancelling(self, task: asyncio.Task[Any] | None) -> None:
        """A signal cancels this task from now on, until there is somebody to ask; None ends that."""
        self._victim = task

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.terminated = self.terminated or number == signal.SIGTERM
        if self.count >= LAST:
            os._exit(LEFT)
        self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if self._victim:
            self._victim.cancel()
