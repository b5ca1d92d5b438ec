"""Whatever the user's code raises becomes a value; a thread that nobody waits for is counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any, NoReturn

import pytest

from mesh.agents.guard import MAX_MESSAGE_CHARS, Raised, Threads, error_of, guard
from mesh.errors import InvalidInput, MeshError, StepFailed
from schemas.error import Error

ODD = [
    ValueError("no"),
    StopIteration(1),
    StopAsyncIteration(),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    BaseExceptionGroup("several", [ValueError("x"), KeyboardInterrupt()]),
    MemoryError(),
]


def call(function: Callable[..., Any], *args: Any, threads: Threads | None = None) -> Any:
    return guard(function, args, {}, threads or Threads())


def raiser(error: BaseException) -> Callable[[], NoReturn]:
    def function() -> NoReturn:
        raise error

    return function


async def test_an_async_function_gives_its_value() -> None:
    async def double(x: int) -> int:
        return 2 * x

    assert await call(double, 4) == 8


async def test_a_blocking_function_runs_in_another_thread() -> None:
    assert await call(threading.get_ident) != threading.get_ident()


async def test_what_a_blocking_function_hands_out_is_awaited() -> None:
    async def later() -> int:
        return 7

    def hands_out() -> Any:
        return later()

    assert await call(hands_out) == 7


async def test_context_variables_reach_a_thread() -> None:
    who = ContextVar("who", default="nobody")
    who.set("me")
    assert await call(who.get) == "me"


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
async def test_a_blocking_function_may_raise_anything(error: BaseException) -> None:
    outcome = await call(raiser(error))
    assert isinstance(outcome, Raised)
    assert error_of(outcome.error).code == "handler_error"


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
async def test_an_async_function_may_raise_anything(error: BaseException) -> None:
    async def function() -> None:
        raise error

    outcome = await call(function)
    assert isinstance(outcome, Raised)
    assert error_of(outcome.error).message


async def test_a_blocking_function_that_raises_a_cancellation_is_no_cancelled_caller() -> None:
    outcome = await call(raiser(asyncio.CancelledError()))
    assert isinstance(outcome, Raised)


async def test_a_cancellation_passes_through() -> None:
    waiting = asyncio.ensure_future(call(asyncio.Event().wait))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.fixture
async def gate() -> AsyncIterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


async def test_an_abandoned_thread_is_counted_until_it_ends(gate: threading.Event) -> None:
    threads, begun, over = Threads(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def block() -> str:
        loop.call_soon_threadsafe(begun.set)
        gate.wait()
        loop.call_soon_threadsafe(loop.call_soon, over.set)
        return "late"

    waiting = asyncio.ensure_future(call(block, threads=threads))
    await begun.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert threads.abandoned == 1
    gate.set()
    await over.wait()
    while threads.abandoned:  # noqa: ASYNC110 - the thread settles right after it has set the event
        await asyncio.sleep(0)


async def test_a_caller_that_is_cancelled_just_as_its_thread_ends_abandons_nothing() -> None:
    threads = Threads()
    loop = asyncio.get_running_loop()
    held: list[asyncio.Future[Any]] = []

    def finish() -> None:
        loop.call_soon_threadsafe(cancel_next)

    def cancel_next() -> None:
        loop.call_soon(held[0].cancel)

    held.append(asyncio.ensure_future(call(finish, threads=threads)))
    await asyncio.wait(held)
    while threads.abandoned:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert threads.abandoned == 0


def test_an_error_of_ours_keeps_its_code_and_hint() -> None:
    error = error_of(InvalidInput("bad", hint="do this"))
    assert (error.code, error.message, error.hint) == ("invalid_input", "bad", "do this")


def test_a_failed_step_keeps_the_error_that_the_log_holds() -> None:
    kept = Error(code="tool_failed", message="m", details={"a": 1})
    assert error_of(StepFailed(kept)) == kept


def test_any_other_error_names_its_type_and_where_it_came_from() -> None:
    try:
        raiser(KeyError("k"))()
    except KeyError as raised:
        error = error_of(raised)
    assert error.message == "KeyError: 'k'"
    assert error.details is not None
    assert "raiser" in error.details["traceback"] or "function" in error.details["traceback"]


def test_an_error_without_a_message_is_named_by_its_type() -> None:
    assert error_of(RuntimeError()).message == "RuntimeError"


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("x" * 10_000_000),
        RuntimeError("\ud800"),
        Unprintable(),
        MeshError("x" * 10_000_000, hint="\ud800"),
        MeshError(5),  # type: ignore[arg-type]
    ],
    ids=["long", "surrogate", "unprintable", "ours", "number"],
)
def test_whatever_an_error_says_fits_into_the_log(error: Exception) -> None:
    kept = error_of(error)
    assert isinstance(kept.message, str)
    assert len(kept.message) <= MAX_MESSAGE_CHARS + 20
    kept.message.encode()
