"""A handler that waits for a tool longer than a worker holds it, and what must not be lost meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mesh import Context, Mesh, ToolContext
from mesh.agents.durable import HOLD_S
from mesh.log import large
from mesh.log.driver import Driver
from mesh.log.ops import Append
from mesh.testing import eventually
from schemas.object import LARGE_BYTES
from schemas.task import TaskAccepted, TaskSuspended
from services.executor import execution
from tests.integration.world import World


@pytest.mark.parametrize("agent", ["calls", "steps"])
async def test_a_handler_that_cleans_up_after_a_long_wait_loses_nothing(world: World, agent: str) -> None:
    app, go, unlocked = Mesh("shop"), asyncio.Event(), list[int]()

    @app.tool(idempotent=True)
    async def slow() -> int:
        await go.wait()
        return 1

    @app.tool(idempotent=True)
    def release() -> int:
        return 2

    def unlock() -> None:
        unlocked.append(1)

    @app.agent
    async def calls(ctx: Context) -> int:
        try:
            return await ctx.tool(slow)
        finally:
            await ctx.tool(release)

    @app.agent
    async def steps(ctx: Context) -> int:
        try:
            return await ctx.tool(slow)
        finally:
            await ctx.step("unlock", unlock, idempotent=False)

    await world.runner(app)
    await world.serve(app)
    task = await world.client.submit(agent, None)
    await eventually(lambda: _holds(world, task.id, "task.suspended"))
    go.set()
    outcome = await world.outcome(task.id)
    assert outcome.result.output == 1
    assert len(unlocked) == (agent == "steps")
    assert await world.queue_is_empty()


async def test_a_result_that_comes_while_a_large_input_is_read_again_is_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner is about to suspend, an outsider's append is in its way, and the result comes while it begins anew."""
    app, said, ended = Mesh("shop"), asyncio.Event(), asyncio.Event()
    real_answer, real_restore, restored = Driver.answer, large.restore, list[str]()

    @app.tool(idempotent=True)
    async def slow(ctx: ToolContext) -> int:
        await said.wait()
        ctx.progress("half")
        await ended.wait()
        return 1

    @app.agent
    async def waits(ctx: Context, text: str) -> int:
        return await ctx.tool(slow)

    async def answer(driver: Driver, op: Any) -> Any:
        if isinstance(op, Append) and isinstance(op.commit.events[-1].data, TaskSuspended) and not said.is_set():
            said.set()
            await eventually(lambda: _holds(world, op.commit.task, "step.progress"))
        return await real_answer(driver, op)

    async def restore(data: Any, objects: Any) -> Any:
        if isinstance(data, TaskAccepted):
            restored.append(data.agent)
            if len(restored) == 2:
                ended.set()
                await eventually(lambda: _holds(world, task.id, "step.completed"))
        return await real_restore(data, objects)

    monkeypatch.setattr(Driver, "answer", answer)
    monkeypatch.setattr(execution, "restore", restore)
    await world.runner(app)
    await world.serve(app)
    task = await world.client.submit(waits, "x" * (LARGE_BYTES + 1))
    assert (await world.outcome(task.id)).result.output == 1
    assert len(restored) >= 2


async def test_short_calls_one_after_the_other_suspend_nothing(world: World) -> None:
    app = Mesh("shop")

    @app.tool(idempotent=True)
    async def short() -> None:
        await asyncio.sleep(HOLD_S / 4)

    @app.agent
    async def many(ctx: Context) -> int:
        for _ in range(8):
            await ctx.tool(short)
        return 8

    await world.runner(app)
    await world.serve(app)
    task = await world.client.submit(many, None)
    outcome = await world.outcome(task.id)
    assert outcome.result.output == 8
    starts = [one for entry in outcome.entries for one in entry.commit.events if one.type == "task.started"]
    assert len(starts) == 1


async def test_a_canceled_handler_has_the_time_that_it_needs_to_clean_up(world: World) -> None:
    app, begun, done = Mesh("shop"), asyncio.Event(), list[str]()

    @app.agent
    async def cleans(ctx: Context) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(2.5 * world.settings.tick_s)
            done.append("cleaned up")

    world.set(cancel_grace_s=30)
    await world.serve(app)
    task = await world.client.submit(cleans, None)
    await begun.wait()
    await task.cancel()
    assert (await world.outcome(task.id)).result.state == "canceled"
    assert done == ["cleaned up"]


async def _holds(world: World, task: str, type: str) -> bool:
    return any(one.type == type for entry in await world.entries(task) for one in entry.commit.events)
