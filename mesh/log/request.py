"""A broadcast that comes before the request which it announces (X1)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

LOOKS: Final = 32
LOOK_S: Final = 0.2


async def is_requested(look: Callable[[], Awaitable[bool]]) -> bool:
    """Whether a look at the log shows the request, for some seconds at the most.

    A broadcast stops effects; only a request in the log ends the task, and only then is recorded what it stopped.
    """
    for n in range(LOOKS):
        if await look():
            return True
        await asyncio.sleep(min(0.001 * 2**n, LOOK_S))
    return False
