"""Whatever a handler does, its task ends and its service lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from mesh import Context, Mesh, OutcomeUnknown, StepFailed
from mesh.testing import eventually
from schemas.object import MAX_VALUE_BYTES
from tests.integration.world import World, told_text

BIG = 2 * 1024 * 1024


@dataclass
class Order:
    item: str
    count: int = 1


@dataclass
class Bill:
    total: int


def app_of(handler: Any, **options: Any) -> Mesh:
    app = Mesh("shop")
    app.agent(name="a", **options)(handler)
    return app


async def run(world: World, handler: Any, value: Any = None) -> Any:
    """The outcome of one task, after which its service still serves another one."""
    executor = await world.serve(app_of(handler))
    task = await world.client.submit("a", value)
    outcome = await world.outcome(task.id)
    await eventually(world.queue_is_empty)
    assert executor.service.busy() == []
    assert not executor.service._crew.workers[0].held  # type: ignore[attr-defined]
    return outcome


def raising(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


ODD = [
    ValueError("no"),
    StopIteration("x"),
    SystemExit(2),
    KeyboardInterrupt(),
    GeneratorExit(),
    asyncio.CancelledError(),
    ExceptionGroup("g", [ValueError("x")]),
    RuntimeError("x" * BIG),
    RuntimeError("\ud800"),
]
NAMES = [type(error).__name__ + ("" if len(str(error)) < 9 else "-long") for error in ODD[:-1]] + ["surrogate"]


@pytest.mark.parametrize("error", ODD, ids=NAMES)
async def test_a_handler_may_raise_anything(world: World, error: BaseException) -> None:
    async def handler(ctx: Context) -> None:
        raise error

    outcome = await run(world, handler)
    assert outcome.types == ["task.accepted", "task.started", "task.failed"]
    assert outcome.result.error.code == "handler_error"


@pytest.mark.parametrize("error", ODD, ids=NAMES)
async def test_a_blocking_step_may_raise_anything(world: World, error: BaseException) -> None:
    async def handler(ctx: Context) -> str:
        try:
            await ctx.step("s", raising(error))
        except StepFailed as failed:
            return failed.code
        return "no error"

    assert (await run(world, handler)).result.output == "handler_error"


@pytest.mark.parametrize("error", ODD[:5], ids=NAMES[:5])
async def test_an_async_step_may_raise_anything(world: World, error: BaseException) -> None:
    async def step() -> None:
        raise error

    async def handler(ctx: Context) -> None:
        await ctx.step("s", step)

    outcome = await run(world, handler)
    assert outcome.result.error.code == "handler_error"
    assert outcome.types.count("step.failed") == 1


@pytest.mark.parametrize(
    ("value", "code"),
    [(5, "invalid_input"), (None, "invalid_input"), (object(), "invalid_input"), ("x" * MAX_VALUE_BYTES, "too_large")],
    ids=["number", "none", "object", "big"],
)
async def test_an_output_that_its_annotation_forbids_fails_the_task(world: World, value: Any, code: str) -> None:
    async def handler(ctx: Context) -> str:
        await ctx.emit_text("this much was said")
        return value  # type: ignore[no-any-return]

    outcome = await run(world, handler)
    assert (outcome.result.state, outcome.result.error.code) == ("failed", code)
    assert outcome.text == "this much was said"


async def test_a_step_result_that_is_too_large_is_a_failed_step(world: World) -> None:
    async def handler(ctx: Context) -> str:
        try:
            await ctx.step("big", lambda: "x" * MAX_VALUE_BYTES)
        except StepFailed as failed:
            return failed.code
        return "no error"

    assert (await run(world, handler)).result.output == "too_large"


async def test_an_output_at_the_limit_goes_with_text_that_was_just_streamed(world: World) -> None:
    async def handler(ctx: Context) -> str:
        for _ in range(15_000):
            await ctx.emit_text("\x01")
        return "x" * 700_000

    outcome = await run(world, handler)
    assert len(outcome.result.output) == 700_000
    assert outcome.text == "\x01" * 15_000


async def test_an_event_at_the_limit_goes_with_text_that_was_just_streamed(world: World) -> None:
    async def handler(ctx: Context) -> None:
        for _ in range(15_000):
            await ctx.emit_text("\x01")
        await ctx.emit_event("big", "x" * 700_000)
        await ctx.emit_event("big", "y" * 700_000)

    outcome = await run(world, handler)
    assert outcome.result.state == "completed"
    assert outcome.types.count("event.added") == 2
    assert outcome.text == "\x01" * 15_000


@pytest.mark.parametrize(
    ("value", "kind", "seen"),
    [
        ('{"item": "tea", "count": 2}', Order, "Order(item='tea', count=2)"),
        ({"item": "tea"}, Order, "Order(item='tea', count=1)"),
        ("7", int, "7"),
        ("7", str, "'7'"),
        ([1, 2], list[int], "[1, 2]"),
        ("red", Literal["red"], "'red'"),
        (10**30, int, str(10**30)),
    ],
)
async def test_an_input_reaches_the_handler_as_it_wants_it(world: World, value: Any, kind: Any, seen: str) -> None:
    async def handler(ctx: Context, value: Any) -> str:
        return repr(value)

    handler.__annotations__["value"] = kind
    assert (await run(world, handler, value)).result.output == seen


@pytest.mark.parametrize("value", ["tea", {"item": 1}, 5, None])
async def test_an_input_that_does_not_fit_fails_the_task_and_says_what_would(world: World, value: Any) -> None:
    async def handler(ctx: Context, order: Order) -> str:
        return order.item

    outcome = await run(world, handler, value)
    assert (outcome.result.error.code, outcome.result.error.hint) == ("invalid_input", "this agent takes Order")


async def test_a_dataclass_goes_in_and_another_comes_out(world: World) -> None:
    async def handler(ctx: Context, order: Order) -> Bill:
        return await ctx.step("bill", price, order)

    outcome = await run(world, handler, Order("tea", 3))
    assert outcome.result.output == {"total": 6}


def price(order: Order) -> Bill:
    return Bill(2 * order.count)


class Versions:
    """Two versions of one agent, of which the first is stopped in the middle."""

    def __init__(self, on_change: Literal["suspend", "fail"] = "suspend") -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.first = app_of(self._begins, on_change=on_change)
        self.other = app_of(self._asks_otherwise, on_change=on_change)
        self.third = app_of(self._fits, on_change=on_change)

    async def _begins(self, ctx: Context) -> str:
        await ctx.emit_text("begun ")
        await ctx.step("old", lambda: 1)
        self.begun.set()
        await self.go.wait()
        return "first"

    async def _asks_otherwise(self, ctx: Context) -> str:
        await ctx.step("new", lambda: 2)
        return "second"

    async def _fits(self, ctx: Context) -> str:
        await ctx.emit_text("begun ")
        await ctx.step("old", lambda: 1)
        await ctx.emit_text("and ended")
        return "third"


async def test_a_changed_handler_is_suspended_until_a_version_comes_that_fits(world: World) -> None:
    versions = Versions()
    await world.router()
    one = await world.executor(versions.first, "1")
    task = await world.client.submit("a", None)
    await versions.begun.wait()
    await one.stop()
    two = await world.executor(versions.other, "2")
    await world.reaches(task.id, "suspended")
    suspended = (await world.entries(task.id))[-1].commit.events[-1].data
    assert suspended.error.code == "nondeterministic"
    assert "'old'" in suspended.error.message
    assert "'new'" in suspended.error.message
    assert suspended.not_apps == ("2",)
    await two.stop()
    await world.executor(versions.third, "3")
    outcome = await world.outcome(task.id)
    assert (outcome.result.output, outcome.text) == ("third", "begun and ended")
    assert outcome.types.count("task.resumed") == 1
    assert outcome.types.count("step.completed") == 1
    await eventually(world.queue_is_empty)


async def test_a_changed_handler_may_ask_to_be_failed_instead(world: World) -> None:
    versions = Versions("fail")
    await world.router()
    one = await world.executor(versions.first, "1")
    task = await world.client.submit("a", None)
    await versions.begun.wait()
    await one.stop()
    await world.executor(versions.other, "2")
    outcome = await world.outcome(task.id)
    assert outcome.result.error is not None
    assert outcome.result.error.code == "nondeterministic"


async def test_a_step_that_must_not_be_repeated_is_not_repeated_after_its_worker_is_cut_off(world: World) -> None:
    begun, never = asyncio.Event(), asyncio.Event()
    calls = 0

    async def pay() -> None:
        nonlocal calls
        calls += 1
        begun.set()
        await never.wait()

    async def handler(ctx: Context) -> str:
        try:
            await ctx.step("pay", pay, idempotent=False)
        except OutcomeUnknown as unknown:
            return unknown.code
        return "paid"

    world.set(ack_wait_s=0.5)
    await world.router()
    one = await world.executor(app_of(handler))
    task = await world.client.submit("a", None)
    await begun.wait()
    await one.cut_off()
    await world.executor(app_of(handler))
    outcome = await world.outcome(task.id)
    assert outcome.result.output == "tool_outcome_unknown"
    assert calls == 1


async def test_text_of_a_worker_that_was_cut_off_is_taken_back(world: World) -> None:
    said = asyncio.Event()
    never = asyncio.Event()
    lives = 0

    async def handler(ctx: Context) -> str:
        nonlocal lives
        lives += 1
        await ctx.emit_text("kept. ")
        await ctx.step("s", lambda: None)
        await ctx.emit_text(f"life {lives}. ")
        if lives == 1:
            said.set()
            await never.wait()
        return "done"

    world.set(ack_wait_s=0.5)
    await world.router()
    one = await world.executor(app_of(handler))
    task = await world.client.submit("a", None)
    told: list[Any] = []

    async def watch() -> None:
        async for event in task.tail():
            told.append(event)

    watching = asyncio.create_task(watch())
    await said.wait()

    async def heard() -> bool:
        return any("life 1" in getattr(event.data, "text", "") for event in told)

    await eventually(heard)
    await one.cut_off()
    await world.executor(app_of(handler))
    outcome = await world.outcome(task.id)
    await watching
    assert outcome.text == "kept. life 2. "
    kinds = [event.type for event in told]
    assert kinds.count("text.discarded") == 1
    assert told_text(told) == outcome.text


async def test_a_drain_hands_a_task_over_without_burning_an_attempt(world: World) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def handler(ctx: Context) -> int:
        begun.set()
        await go.wait()
        return ctx.task.attempt

    await world.router()
    world.set(max_attempts=2)
    for _ in range(4):
        one = await world.executor(app_of(handler))
        if not begun.is_set():
            task = await world.client.submit("a", None)
        await begun.wait()
        await world.reaches(task.id, "running")
        await one.stop()
    go.set()
    await world.executor(app_of(handler))
    outcome = await world.outcome(task.id)
    assert outcome.result.state == "completed"
    assert "task.released" in outcome.types
