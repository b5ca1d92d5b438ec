"""The border to the user's code: whatever it raises becomes a value here.

Cancellation passes through. A blocking function runs in a thread of its own, which cannot be stopped: once its caller
is cancelled, its result is refused and it counts as abandoned.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final

from msgspec import Struct

from mesh.errors import MeshError
from schemas import error as codes
from schemas.error import Error

MAX_TRACEBACK_CHARS: Final = 4000


class Raised(Struct, frozen=True):
    """What the user's code raised."""

    error: Exception


class Threads:
    """Blocking calls under way, and those that nobody waits for any more."""

    def __init__(self) -> None:
        self.abandoned = 0

    async def call(self, function: Callable[[], Any]) -> Any:
        """Calls a blocking function in a daemon thread, so that it never holds up an exit."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def settle(result: Any, error: BaseException | None) -> None:
            if done.cancelled():
                self.abandoned -= 1
            elif error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)

        def work() -> None:
            try:
                result, error = context.run(function), None
            except Exception as raised:  # noqa: BLE001 - the user's code; it is raised again where it is awaited
                result, error = None, raised
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, result, error)

        threading.Thread(target=work, name="mesh-blocking", daemon=True).start()
        try:
            return await done
        except asyncio.CancelledError:
            self.abandoned += 1
            raise


async def guard(function: Callable[..., Any], args: Any, kwargs: Any, threads: Threads) -> Any:
    """The value of the user's function, async or blocking, or what it raised."""
    try:
        if inspect.iscoroutinefunction(function):
            return await function(*args, **kwargs)
        value = await threads.call(lambda: function(*args, **kwargs))
        return await value if isinstance(value, Awaitable) else value
    except SystemExit as error:
        return Raised(RuntimeError(f"the code called exit({error.code})"))
    except Exception as error:  # noqa: BLE001 - the user's code raises what it likes; it is recorded as the outcome
        return Raised(error)


def error_of(raised: Exception, code: str = codes.HANDLER_ERROR) -> Error:
    """What the log keeps of an exception of the user's code."""
    if isinstance(raised, MeshError):
        return raised.to_error()
    text = "".join(traceback.format_exception(raised))
    kind = type(raised).__name__
    return Error(
        code=code, message=f"{kind}: {raised}" if str(raised) else kind,
        details={"type": kind, "traceback": text[-MAX_TRACEBACK_CHARS:]},
    )  # fmt: skip
