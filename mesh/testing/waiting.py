"""Waiting for something that another process does, without a sleep in the test."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, overload

T = TypeVar("T")
FIRST_PAUSE_S: Final = 0.002
LAST_PAUSE_S: Final = 0.1


@overload
async def eventually(
    check: Callable[[], Awaitable[T]], timeout_s: float = ..., *, forgive: type[Exception] = ...
) -> T: ...


@overload
async def eventually(check: Callable[[], T], timeout_s: float = ..., *, forgive: type[Exception] = ...) -> T: ...


async def eventually(
    check: Callable[[], Any], timeout_s: float = 10.0, *, forgive: type[Exception] = AssertionError
) -> Any:
    """Calls `check` until it gives something true, or no AssertionError any more.

    It may be async. What it returned is returned; a check that returns None and raises nothing is content. Any other
    exception goes through at once, unless it is one to `forgive` (`BusUnavailable`, where the broker is restarted).

    Raises: AssertionError with what was wrong at the last look, once `timeout_s` is over.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + timeout_s
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            value = check()
            if inspect.isawaitable(value):
                value = await value
            if value or value is None:
                return value
            wrong: Exception = AssertionError(f"{_named(check)} gave {value!r}")
        except (AssertionError, forgive) as error:
            wrong = error
        if loop.time() > give_up:
            raise AssertionError(f"still not so after {timeout_s:g} s: {wrong}") from wrong
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, LAST_PAUSE_S)


def _named(check: Callable[..., object]) -> str:
    name = getattr(check, "__name__", "the check")
    return "the check" if name == "<lambda>" else name
