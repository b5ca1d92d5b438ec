"""What somebody takes away from the broker is put back: timers, and the consumers of running services."""

from __future__ import annotations

import asyncio

import pytest

from mesh import Context, Mesh
from mesh.errors import MeshError
from mesh.testing import eventually
from tests.integration.stubborn import Stubborn
from tests.integration.world import World


async def timers(world: World, task: str) -> set[str]:
    """The kinds of timer that are set for a task."""
    cut = len(f"{world.names.prefix}.later.")
    found = await world.bus.counts(world.names.work, f"{world.names.prefix}.later.*")
    return {subject[cut:].partition("-")[0] for subject in found if subject.endswith(f"-{task}")}


async def assert_set_again(world: World, task: str, kinds: set[str]) -> None:
    """Purges the work stream, and waits for the timers."""
    assert await timers(world, task) == kinds
    await world.bus.purge(world.names.work, f"{world.names.prefix}.>")
    assert await timers(world, task) == set()

    async def are_back() -> bool:
        return await timers(world, task) == kinds

    await eventually(are_back)


async def test_a_purge_takes_neither_deadline_nor_the_grace_of_a_cancel(world: World) -> None:
    world.set(reconcile_s=0.2, cancel_grace_s=30.0)
    app = Mesh("shop")
    stubborn = Stubborn(app)

    await world.serve(app)
    task = await world.client.submit("stubborn", None, deadline_s=1000.0)
    await stubborn.begun.wait()
    await assert_set_again(world, task.id, {"deadline"})
    await task.cancel()
    await assert_set_again(world, task.id, {"deadline", "grace"})
    stubborn.over.set()
    assert (await world.outcome(task.id)).result.state == "canceled"


async def test_a_deadline_that_was_purged_ends_its_task_at_its_time(world: World) -> None:
    world.set(reconcile_s=0.2)
    app, begun = Mesh("shop"), asyncio.Event()

    @app.agent
    async def hangs(ctx: Context) -> None:
        begun.set()
        await asyncio.Event().wait()

    await world.serve(app)
    task = await world.client.submit("hangs", None, deadline_s=2.0)
    await begun.wait()
    await world.bus.purge(world.names.work, f"{world.names.prefix}.later.>")
    outcome = await world.outcome(task.id)
    assert outcome.result.error
    assert outcome.result.error.code == "deadline_exceeded"


async def test_a_purge_does_not_keep_a_changed_task_from_its_next_version(world: World) -> None:
    world.set(reconcile_s=0.2)
    gate, begun = asyncio.Event(), asyncio.Event()

    def version(step: str) -> Mesh:
        app = Mesh("shop")

        @app.agent
        async def changes(ctx: Context) -> None:
            await ctx.step(step, lambda: None)
            begun.set()
            await gate.wait()

        return app

    await world.router()
    first = await world.executor(version("a"), "1")
    task = await world.client.submit("changes", None)
    await begun.wait()
    await first.stop()
    await world.executor(version("b"), "2")
    await world.reaches(task.id, "suspended")
    await assert_set_again(world, task.id, {"resume"})


async def test_the_stream_of_deltas_which_no_broker_keeps_over_a_restart_is_made_again(world: World) -> None:
    world.set(reconcile_s=0.2)
    await world.router()
    deltas = world.names.deltas
    before = await world.bus.stream_created(deltas)
    await world.bus.request(f"$JS.API.STREAM.DELETE.{deltas}", b"", timeout_s=5)

    async def is_another() -> bool:
        return await world.bus.stream_created(deltas) != before

    await eventually(is_another, forgive=MeshError)


@pytest.mark.parametrize("consumer", ["router_submit", "router_signal", "run_shop", "call_shop"])
async def test_a_consumer_that_was_deleted_is_made_again(world: World, consumer: str) -> None:
    app, begun, gate = Mesh("shop"), asyncio.Event(), asyncio.Event()
    effects = []

    @app.tool
    async def count() -> int:
        effects.append("count")
        begun.set()
        await gate.wait()
        return len(effects)

    @app.agent
    async def counts(ctx: Context) -> int:
        effects.append("step")
        return await ctx.tool(count)

    await world.serve(app)
    await world.runner(app)
    task = await world.client.submit("counts", None)
    await begun.wait()
    stream = world.names.work if consumer.startswith("router") else world.names.runs
    answer = await world.bus.request(f"$JS.API.CONSUMER.DELETE.{stream}.{consumer}", b"", timeout_s=5)
    assert b'"success":true' in answer.data
    gate.set()
    assert (await world.outcome(task.id)).result.output == 2
    other = await world.client.submit("counts", None)
    assert (await world.outcome(other.id)).result.output == 4
    doomed = await world.client.submit("counts", None, task_id="doomed")
    await doomed.cancel()
    assert (await world.outcome("doomed")).result.state in ("canceled", "completed")
    await eventually(world.queue_is_empty)
