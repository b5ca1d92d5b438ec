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
from contextlib import suppress
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from mesh.errors import MeshError
from schemas import error as codes
from schemas.error import Error

MAX_TRACEBACK_CHARS: Final = 4000
MAX_MESSAGE_CHARS: Final = 4000


class Raised(Struct, frozen=True):
    """What the user's code raised; also an exit, which must not reach the loop."""

    error: BaseException


class Threads:
    """Blocking calls under way, and those that nobody waits for any more."""

    def __init__(self) -> None:
        self.abandoned = 0

    async def call(self, function: Callable[[], Any]) -> Any:
        """Calls a blocking function in a daemon thread, so that it never holds up an exit."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def settle(result: Any) -> None:
            if done.cancelled():
                self.abandoned -= 1
            else:
                done.set_result(result)

        def work() -> None:
            # As a value: a future takes no StopIteration, and a thread drops SystemExit without a word.
            try:
                result = context.run(function)
            except BaseException as error:  # noqa: BLE001 - the user's code raises what it likes
                result = _raised(error)
            with suppress(RuntimeError):  # the loop has closed meanwhile
                loop.call_soon_threadsafe(settle, result)

        threading.Thread(target=work, name="mesh-blocking", daemon=True).start()
        try:
            return await done
        except asyncio.CancelledError:
            if done.cancelled():
                self.abandoned += 1
            raise


async def guard(function: Callable[..., Any], args: Any, kwargs: Any, threads: Threads) -> Any:
    """The value of the user's function, async or blocking, or what it raised.

    Of all it may raise only a cancellation goes on; an exit of the user's code would otherwise end the service.
    """
    try:
        if inspect.iscoroutinefunction(function):
            return await function(*args, **kwargs)
        value = await threads.call(lambda: function(*args, **kwargs))
        return await value if isinstance(value, Awaitable) else value
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - the user's code raises what it likes; it is recorded as the outcome
        return _raised(error)


def _raised(error: BaseException) -> Raised:
    return Raised(RuntimeError(f"the code called exit({error.code})") if isinstance(error, SystemExit) else error)


def error_of(raised: BaseException, code: str = codes.HANDLER_ERROR) -> Error:
    """What the log keeps of an exception of the user's code; text that it can hold, whatever was raised."""
    if isinstance(raised, MeshError):
        error = raised.to_error()
        hint = None if error.hint is None else _text(error.hint)
        return replace(error, message=_text(error.message), hint=hint)
    kind, message = type(raised).__name__, _text(raised)
    lines = "".join(traceback.format_exception(raised)).encode(errors="backslashreplace").decode()
    return Error(
        code=code, message=f"{kind}: {message}" if message else kind,
        details={"type": kind, "traceback": lines[-MAX_TRACEBACK_CHARS:]},
    )  # fmt: skip


def _text(value: object) -> str:
    try:
        text = str(value)
    except Exception as error:  # noqa: BLE001 - the user's own __str__
        text = f"(its text cannot be read: {type(error).__name__})"
    return text[:MAX_MESSAGE_CHARS].encode(errors="backslashreplace").decode()
