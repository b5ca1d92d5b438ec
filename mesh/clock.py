"""The clock that time stamps come from."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

GOOD_FOR_S: Final = 10.0


class Clock(Protocol):
    """Wall time in Unix seconds; tests give their own."""

    def now(self) -> float: ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        return time.time()


class BrokerClock:
    """The broker's wall time, asked now and then and carried on by this machine's monotonic clock.

    Nothing depends on how this machine's wall clock is set. It is late by a round trip at most.
    """

    def __init__(self, ask: Callable[[], Awaitable[float]]) -> None:
        self._ask = ask
        self._ahead = 0.0
        self._asked_at = -GOOD_FOR_S

    async def now(self) -> float:
        """Unix seconds; asks the broker if that is long ago."""
        asked_at = time.monotonic()
        if asked_at - self._asked_at >= GOOD_FOR_S:
            self._ahead = await self._ask() - time.monotonic()
            self._asked_at = asked_at
        return time.monotonic() + self._ahead
