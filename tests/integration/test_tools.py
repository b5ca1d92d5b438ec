"""Tool calls through a tool runner: arguments, results, policy, progress, waiting."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from mesh import Context, InvalidInput, Mesh, OutcomeUnknown, StepFailed, ToolContext
from mesh.log.driver import Driver
from mesh.log.ops import ReadAfter
from mesh.testing import eventually
from schemas.step import StepProgress
from tests.integration.calls import failing, run
from tests.integration.world import World


@dataclass
class Order:
    item: str
    count: int = 1


@dataclass
class Bill:
    total: int


async def test_a_tool_is_called_typed_and_by_name(world: World) -> None:
    app = Mesh("shop")

    @app.tool(idempotent=True)
    async def bill(order: Order, price: int = 2) -> Bill:
        return Bill(order.count * price)

    async def handler(ctx: Context) -> list[Any]:
        typed = await ctx.tool(bill, Order("otter", 3))
        named = await ctx.tool("bill", {"order": {"item": "otter"}, "price": 5}, timeout_s=3)
        return [typed.total, named.total]

    outcome = await run(world, app, handler)
    assert outcome.result.output == [6, 5]
    assert outcome.types[2:8] == ["step.requested", "step.started", "step.completed"] * 2


async def test_the_log_of_many_calls_at_once_is_read_about_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    app, read, real = Mesh("shop"), list[int](), Driver.answer
    calls = 100

    @app.tool(idempotent=True)
    async def same(number: int) -> int:
        return number

    async def handler(ctx: Context) -> int:
        return sum(await asyncio.gather(*(ctx.branch(f"{n}").tool(same, n) for n in range(calls))))

    async def answer(driver: Driver, op: Any) -> Any:
        found = await real(driver, op)
        read.append(len(found) if isinstance(op, ReadAfter) else 0)
        return found

    monkeypatch.setattr(Driver, "answer", answer)
    outcome = await run(world, app, handler)
    assert outcome.result.output == sum(range(calls))
    # Twice for each of its two commits: by the runner, and by the owner that watches it.
    assert sum(read) < 10 * calls


async def test_a_blocking_tool_runs_in_a_thread(world: World) -> None:
    app = Mesh("shop")

    @app.tool
    def where() -> str:
        return threading.current_thread().name

    async def handler(ctx: Context) -> str:
        return await ctx.tool(where)

    assert (await run(world, app, handler)).result.output == "mesh-blocking"


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"order": {"item": "x", "count": "many"}}, "$.order.count"),
        ({"order": {"count": 1}}, "`item`"),
        ({"order": {"item": "x"}, "size": 3}, "`size`"),
        ({}, "`order`"),
        ("text", "object"),
    ],
)
async def test_arguments_are_checked_before_anything_is_recorded(world: World, arguments: Any, path: str) -> None:
    app = Mesh("shop")

    @app.tool
    async def buy(order: Order) -> None: ...

    async def handler(ctx: Context) -> str:
        try:
            await ctx.tool("buy", arguments)
        except InvalidInput as error:
            return str(error)
        return ""

    outcome = await run(world, app, handler)
    assert path in outcome.result.output
    assert "step.requested" not in outcome.types


async def test_a_mutable_default_is_new_for_each_call(world: World) -> None:
    app = Mesh("shop")

    @app.tool
    async def collect(seen: list[int] = [], known: dict[str, int] = {}) -> int:  # noqa: B006
        seen.append(1)
        known[str(len(known))] = 1
        return len(seen) + len(known)

    async def handler(ctx: Context) -> list[int]:
        return [await ctx.tool(collect), await ctx.tool(collect)]

    assert (await run(world, app, handler)).result.output == [2, 2]


async def test_a_tool_that_is_not_there_is_named_with_its_nearest(world: World) -> None:
    app = Mesh("shop")

    @app.tool
    async def price() -> None: ...

    async def handler(ctx: Context) -> None:
        await ctx.tool("prize", {})

    outcome = await run(world, app, handler)
    assert outcome.result.error
    assert outcome.result.error.code == "invalid_input"
    assert "'price'" in (outcome.result.error.hint or "")


async def test_a_runner_that_lacks_the_tool_says_so(world: World) -> None:
    app, older = Mesh("shop"), Mesh("shop")

    @app.tool
    async def price() -> None: ...

    @app.agent
    async def a(ctx: Context) -> None:
        await ctx.tool(price)

    await world.router()
    await world.start("tool-runner", app=older, app_version="1")
    await world.executor(app)
    outcome = await world.outcome((await world.client.submit("a", None)).id)
    assert outcome.result.error
    assert "has no tool 'price'" in outcome.result.error.message


@pytest.mark.parametrize("value", [object(), {"x": object()}, 1j], ids=["object", "nested", "complex"])
async def test_a_result_that_cannot_be_recorded_is_a_failed_step(world: World, value: Any) -> None:
    app = Mesh("shop")

    @app.tool
    async def odd() -> Any:
        return value

    async def handler(ctx: Context) -> str:
        try:
            await ctx.tool("odd", {})
        except StepFailed as error:
            return str(error)
        return ""

    assert "cannot be recorded" in (await run(world, app, handler)).result.output


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), TimeoutError("mine")]
)
async def test_a_tool_may_raise_anything(world: World, error: BaseException) -> None:
    app = Mesh("shop")
    failing(app, "bad", error)

    async def handler(ctx: Context) -> str:
        try:
            await ctx.tool("bad", {})
        except StepFailed as failed:
            return failed.code
        return ""

    assert (await run(world, app, handler)).result.output == "tool_failed"


@pytest.mark.parametrize("blocking", [False, True])
async def test_a_tail_sees_the_newest_progress_of_a_tool(world: World, blocking: bool) -> None:
    app = Mesh("shop")
    seen = threading.Event()

    if blocking:

        @app.tool(name="long")
        def long(ctx: ToolContext) -> str:
            for n in range(1000):
                ctx.progress(f"{n}", n / 1000)
            assert seen.wait(60)
            return "done"
    else:

        @app.tool(name="long")
        async def long_too(ctx: ToolContext) -> str:
            for n in range(1000):
                ctx.progress(f"{n}", n / 1000)
            await asyncio.to_thread(seen.wait, 60)
            return "done"

    @app.agent
    async def a(ctx: Context) -> str:
        return await ctx.tool("long", {})  # type: ignore[no-any-return]

    await world.runner(app)
    await world.serve(app)
    task = await world.client.submit("a", None)
    told = []
    async for event in task.tail():
        if event.type == "step.progress":
            told.append(event.data)
        if told and told[-1].message == "999":
            seen.set()
    assert told[-1] == StepProgress(step="long", message="999", fraction=0.999)
    assert len(told) < 100
    assert (await world.outcome(task.id)).result.output == "done"


async def test_odd_progress_is_refused_or_cut(world: World) -> None:
    app = Mesh("shop")

    @app.tool
    async def odd(ctx: ToolContext) -> str:
        ctx.progress("\ud800" + "x" * 2_000_000)
        ctx.progress("half", "0.5")  # type: ignore[arg-type]
        return "done"

    async def handler(ctx: Context) -> None:
        await ctx.tool("odd", {})

    outcome = await run(world, app, handler)
    assert outcome.result.error
    assert outcome.result.error.code == "invalid_input"


async def test_tasks_that_wait_for_a_slow_tool_hold_no_slot(world: World) -> None:
    app = Mesh("shop")
    begun: set[int] = set()
    go = asyncio.Event()

    @app.tool(idempotent=True)
    async def slow(number: int) -> int:
        begun.add(number)
        await go.wait()
        return number

    @app.agent
    async def a(ctx: Context, number: int) -> int:
        return await ctx.tool(slow, number)

    await world.router()
    await world.runner(app)
    world.set(slots=1)
    await world.executor(app)
    tasks = [await world.client.submit("a", number) for number in range(3)]
    for task in tasks:
        await world.reaches(task.id, "suspended")
    assert begun == {0, 1, 2}
    go.set()
    for number, task in enumerate(tasks):
        outcome = await world.outcome(task.id)
        assert outcome.result.output == number
        assert outcome.types.count("task.started") == 2
    await eventually(world.queue_is_empty)


async def test_a_call_waits_for_a_tool_runner(world: World) -> None:
    app = Mesh("shop")

    @app.tool
    async def late() -> str:
        return "here"

    @app.agent
    async def a(ctx: Context) -> str:
        return await ctx.tool(late)

    await world.router()
    await world.executor(app)
    task = await world.client.submit("a", None)
    await world.reaches(task.id, "suspended")
    await world.runner(app)
    assert (await world.outcome(task.id)).result.output == "here"


async def test_a_tool_stays_a_plain_function() -> None:
    app = Mesh("shop")

    @app.tool
    async def double(number: int) -> int:
        return 2 * number

    @app.tool(max_attempts=3)
    def half(number: int) -> float:
        return number / 2

    assert await double(4) == 8
    assert half(number=4) == 2.0
    with pytest.raises(TypeError):
        half()  # type: ignore[call-arg]


async def test_an_unknown_outcome_is_an_error_of_its_own(world: World) -> None:
    app = Mesh("shop")
    begun = asyncio.Event()

    @app.tool
    async def charge() -> str:
        begun.set()
        await asyncio.Event().wait()
        return "never"

    @app.agent
    async def a(ctx: Context) -> str:
        try:
            return await ctx.tool(charge)
        except OutcomeUnknown:
            return "ask the bank"

    world.set(ack_wait_s=0.5)
    await world.router()
    runner = await world.runner(app)
    await world.executor(app)
    task = await world.client.submit("a", None)
    await begun.wait()
    await runner.cut_off()
    await world.runner(app)
    assert (await world.outcome(task.id)).result.output == "ask the bank"
