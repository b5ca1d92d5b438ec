"""Ctrl-C before and after the time in which a command listens to it: the process ends, without a traceback."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Final

LEFT: Final = 130


def leave_at_ctrl_c() -> None:
    """While modules are imported, and at the very end."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def heed_ctrl_c() -> None:
    """From now on it is a KeyboardInterrupt again, which the event loop turns into a cancellation."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(LEFT)
