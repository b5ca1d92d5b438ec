"""What a tool's policy says: time, attempts, places, and what runners that die leave to others."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from mesh import Context, InvalidInput, Mesh, StepFailed, ToolContext, ToolFailed
from mesh.testing import eventually
from schemas.step import StepFailed as StepFailedEvent
from schemas.step import StepStarted
from tests.integration.calls import data_of, failing, run
from tests.integration.world import World


class Busy(Exception):
    def __init__(self, retry_after_s: Any) -> None:
        super().__init__("busy")
        self.retry_after_s = retry_after_s


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_tool_that_takes_too_long_is_cut_off(world: World, blocking: bool) -> None:
    app = Mesh("shop")
    go, told = threading.Event(), threading.Event()

    if blocking:

        @app.tool(name="slow", timeout_s=0.05)
        def slow(ctx: ToolContext) -> None:
            while not go.wait(0.01):
                try:
                    ctx.check_cancelled()
                except Exception:
                    told.set()
                    raise
    else:

        @app.tool(name="slow")
        async def slow_too() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                told.set()

    async def handler(ctx: Context) -> str:
        try:
            await ctx.tool("slow", {}, timeout_s=None if blocking else 0.05)
        except StepFailed as error:
            return error.code
        return ""

    outcome = await run(world, app, handler)
    assert outcome.result.output == "tool_timeout"
    await eventually(told.is_set)
    go.set()


@pytest.mark.parametrize(("idempotent", "attempts"), [(True, 2), (False, 1)])
async def test_a_time_out_is_tried_again_only_where_that_is_harmless(
    world: World, idempotent: bool, attempts: int
) -> None:
    app = Mesh("shop")

    @app.tool(idempotent=idempotent, timeout_s=0.05, max_attempts=2, backoff_s=0.01)
    async def slow() -> None:
        await asyncio.Event().wait()

    async def handler(ctx: Context) -> None:
        await ctx.tool(slow)

    outcome = await run(world, app, handler)
    assert outcome.result.error
    assert outcome.result.error.code == "tool_timeout"
    assert len(data_of(outcome, StepStarted)) == attempts


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_failure_is_tried_again_by_policy_under_one_key(world: World, idempotent: bool) -> None:
    app = Mesh("shop")
    keys = failing(app, "flaky", ValueError("no"), Busy(0.02), max_attempts=3, idempotent=idempotent)

    async def handler(ctx: Context) -> Any:
        return await ctx.tool("flaky", {})

    outcome = await run(world, app, handler)
    assert outcome.result.output == "attempt 3"
    assert [one.attempt for one in data_of(outcome, StepStarted)] == [1, 2, 3]
    assert len(keys) == 3
    assert len(set(keys)) == 1


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (InvalidInput("no use"), 1),
        (ToolFailed("sold out", retryable=False), 1),
        (ToolFailed("closed", retry_after_s=3600.0), 1),
        (ToolFailed("never", retry_after_s=10**400), 1),
        (ToolFailed("later", retry_after_s=0.02), 2),
        (ToolFailed("again"), 2),
        (Busy(3600.0), 1),
        (Busy("soon"), 2),
        (Busy(float("nan")), 2),
        (Busy(-1), 2),
    ],
    ids=["not retryable", "final", "closed", "never", "later", "again", "an hour", "text", "nan", "negative"],
)
async def test_what_an_error_says_of_a_retry_is_heeded(world: World, error: Exception, attempts: int) -> None:
    app = Mesh("shop")
    keys = failing(app, "flaky", error, error, max_attempts=2)

    async def handler(ctx: Context) -> None:
        await ctx.tool("flaky", {})

    outcome = await run(world, app, handler)
    assert outcome.result.state == "failed"
    assert len(keys) == attempts
    assert len(data_of(outcome, StepFailedEvent)) == 1


async def test_fifty_parallel_calls_of_a_tool_limited_to_four(world: World) -> None:
    app = Mesh("shop")
    now = most = 0
    full = asyncio.Event()

    @app.tool(max_concurrent=4, idempotent=True)
    async def square(number: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 4:
            full.set()
        await full.wait()
        now -= 1
        return number * number

    async def handler(ctx: Context) -> list[int]:
        return list(await asyncio.gather(*(ctx.tool(square, n) for n in range(50))))

    outcome = await run(world, app, handler)
    assert outcome.result.output == [n * n for n in range(50)]
    assert most == 4
    assert len(data_of(outcome, StepStarted)) == 50


async def test_a_tool_that_is_full_keeps_no_other_tool_waiting(world: World) -> None:
    app = Mesh("shop")
    now = most = 0
    go = asyncio.Event()

    @app.tool(max_concurrent=4, idempotent=True)
    async def square(number: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await go.wait()
        now -= 1
        return number * number

    @app.tool
    async def opens() -> str:
        go.set()
        return "open"

    async def handler(ctx: Context) -> list[Any]:
        return list(await asyncio.gather(*(ctx.tool(square, n) for n in range(50)), ctx.tool("opens")))

    world.set(slots=8)
    outcome = await run(world, app, handler)
    assert outcome.result.output == [*[n * n for n in range(50)], "open"]
    assert most == 4
    assert len(data_of(outcome, StepStarted)) == 51


async def test_attempts_by_policy_are_no_runners_that_died(world: World) -> None:
    app = Mesh("shop")
    attempts: list[int] = []
    begun = asyncio.Event()

    @app.tool(idempotent=True, max_attempts=6, backoff_s=0.001)
    async def unlucky(ctx: ToolContext) -> str:
        attempts.append(ctx.attempt)
        if len(attempts) == 5:
            begun.set()
            await asyncio.Event().wait()
        if len(attempts) < 7:
            raise ValueError("no")
        return "done"

    @app.agent
    async def a(ctx: Context) -> str:
        return await ctx.tool(unlucky)

    world.set(ack_wait_s=0.5)
    await world.router()
    runner = await world.runner(app)
    await world.executor(app)
    task = await world.client.submit("a", None)
    await begun.wait()
    await runner.cut_off()
    await world.runner(app)
    outcome = await world.outcome(task.id)
    assert outcome.result.output == "done"
    assert attempts == [1, 2, 3, 4, 5, 6, 7]


async def test_a_call_that_no_runner_survives_ends(world: World) -> None:
    app = Mesh("shop")
    begun = asyncio.Queue[int]()

    @app.tool(idempotent=True)
    async def deadly(ctx: ToolContext) -> None:
        begun.put_nowait(ctx.attempt)
        await asyncio.Event().wait()

    @app.agent
    async def a(ctx: Context) -> None:
        await ctx.tool(deadly)

    world.set(ack_wait_s=0.5, max_attempts=2)
    await world.router()
    await world.executor(app)
    task = await world.client.submit("a", None)
    for attempt in (1, 2):
        runner = await world.runner(app)
        assert await begun.get() == attempt
        await runner.cut_off()
    await world.runner(app)
    outcome = await world.outcome(task.id)
    assert outcome.result.error
    assert outcome.result.error.code == "attempts_exhausted"
    assert "2 runners" in outcome.result.error.message
    assert begun.empty()


async def test_a_failure_in_the_tools_own_words_reaches_the_caller(world: World) -> None:
    app = Mesh("shop")
    failing(app, "shut", ToolFailed("the shop is shut", hint="ask on Monday", retry_after_s=86400.0), max_attempts=3)

    async def handler(ctx: Context) -> Any:
        try:
            await ctx.tool("shut")
        except StepFailed as failed:
            return [failed.code, failed.message, failed.hint, failed.error.details]

    outcome = await run(world, app, handler)
    assert outcome.result.output == ["tool_failed", "the shop is shut", "ask on Monday", {"retry_after_s": 86400.0}]
