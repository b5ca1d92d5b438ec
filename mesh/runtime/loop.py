"""The event loop of every process: uvloop where it is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any, TypeVar

T = TypeVar("T")


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the loop; None for that of asyncio."""
    if find_spec("uvloop") is None:
        return None
    import uvloop

    return uvloop.new_event_loop


def run_on_loop(main: Coroutine[Any, Any, T]) -> T:
    """Runs a process's work to its end."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)
