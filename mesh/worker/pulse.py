"""Notices from outside that an event loop is blocked, and speaks for it.

What blocks the loop also blocks every task that could say so. A thread that only counts costs nothing, and needs the
broker only while there is something to say.
"""

from __future__ import annotations

import asyncio
import sys
import sysconfig
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Final

import structlog

LOOK_S: Final = 1.0
BLOCKED_AFTER: Final = 5
log = structlog.get_logger("mesh.worker")

Speak = Callable[["Pulse", str], Coroutine[Any, Any, None]]


class Pulse:
    """Watches the loop in which `beat` runs.

    `speak` is run on a loop of its own, in the thread, with what blocks the other one; it returns once `blocked` is
    false. Looks are counted, not seconds: a process that was stopped as a whole (SIGSTOP) is not blocked.
    """

    def __init__(self, speak: Speak, *, look_s: float = LOOK_S) -> None:
        self._speak = speak
        self._look_s = look_s
        self._beats = 0
        self._seen = 0
        self._watched = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pulse", daemon=True)

    @property
    def blocked(self) -> bool:
        """Whether the loop has not moved since the last look."""
        return self._beats == self._seen and not self._stopped.is_set()

    async def beat(self) -> None:
        """Shows for ever that the loop moves; the thread ends with it."""
        self._watched = threading.get_ident()
        self._thread.start()
        try:
            while True:
                self._beats += 1
                await asyncio.sleep(self._look_s / 2)
        finally:
            self._stopped.set()

    def _watch(self) -> None:
        looks = 0
        while not self._stopped.wait(self._look_s):
            looks = looks + 1 if self.blocked else 0
            self._seen = self._beats
            if looks >= BLOCKED_AFTER:
                looks = 0
                self._report()

    def _report(self) -> None:
        what = f"the event loop is blocked in {place_of(self._frame())}"
        log.error(what, hint="call what blocks as `await ctx.step(name, function)`: it runs in a thread then")
        try:
            asyncio.run(self._speak(self, what))
        except Exception:  # it would end the watching
            log.exception("nobody was told that the event loop is blocked")

    def _frame(self) -> FrameType | None:
        return sys._current_frames().get(self._watched)  # noqa: SLF001 - documented, for debuggers such as this


def place_of(frame: FrameType | None) -> str:
    """Where a thread stands, in code that is neither Python's own nor installed if there is any."""
    foreign = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "<")
    own = frame
    while own is not None and own.f_code.co_filename.startswith(foreign):
        own = own.f_back
    here = own or frame
    return f"{here.f_code.co_filename}:{here.f_lineno} ({here.f_code.co_name})" if here else "code that cannot be seen"
