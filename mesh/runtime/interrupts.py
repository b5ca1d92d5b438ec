"""Ctrl-C and SIGTERM, counted: the first asks, the second insists."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Takes both signals while it is entered; nobody is interrupted in the middle of anything.

    Whoever cannot be asked yet is cancelled: see `cancelling`.
    """

    def __init__(self) -> None:
        self.count = 0
        self._changed = asyncio.Event()
        self._victim: asyncio.Task[Any] | None = None
        self._undo: list[Callable[[], object]] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            try:
                loop.add_signal_handler(number, self._take)
            except NotImplementedError:  # Windows
                before = signal.signal(number, lambda _n, _f: loop.call_soon_threadsafe(self._take))
                self._undo.append(_restoring(number, before))
            else:
                self._undo.append(_removing(loop, number))
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._undo:
            self._undo.pop()()

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
        """A signal cancels this task from now on; None ends that."""
        self._victim = task

    def _take(self) -> None:
        self.count += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        if self._victim:
            self._victim.cancel()


def _removing(loop: asyncio.AbstractEventLoop, number: signal.Signals) -> Callable[[], object]:
    return lambda: loop.remove_signal_handler(number)


_Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


def _restoring(number: signal.Signals, before: _Handler) -> Callable[[], object]:
    return lambda: signal.signal(number, before)
