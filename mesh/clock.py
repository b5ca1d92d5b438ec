"""The clock that time stamps come from."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time in Unix seconds; tests give their own."""

    def now(self) -> float: ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        return time.time()
