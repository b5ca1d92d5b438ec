"""A task that waits for an object store which is gone ends when it is canceled, and leaves when its worker does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mesh import Context, Mesh
from mesh.bus.definitions import objects_stream
from mesh.server import EmbeddedServer
from mesh.testing import eventually
from mesh.testing.local_mesh import Serving
from schemas.object import LARGE_BYTES
from tests.integration.world import World

LONG = "x" * (LARGE_BYTES + 1)


@pytest.fixture
async def world(mesh_server: EmbeddedServer) -> AsyncIterator[World]:
    """No router ends a canceled task here."""
    async with World(mesh_server, cancel_grace_s=60.0) as world:
        yield world


@pytest.fixture
def go() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def app(go: asyncio.Event) -> Mesh:
    app = Mesh("shop")

    @app.agent
    async def blocks(ctx: Context) -> None:
        await go.wait()

    @app.agent
    async def reads(ctx: Context, text: str) -> int:
        return len(text)

    @app.agent
    async def steps(ctx: Context) -> int:
        return len(await ctx.step("long", lambda: LONG))

    @app.agent
    async def returns(ctx: Context) -> str:
        return LONG

    return app


async def stuck(world: World, app: Mesh, agent: str, go: asyncio.Event) -> tuple[str, Serving]:
    """A task that waits for the object store, and its executor, which was busy until the store was gone."""
    world.set(slots=1)
    executor = await world.serve(app)
    before = await world.client.submit("blocks", None)
    await world.reaches(before.id, "running")
    task = await world.client.submit(agent, LONG if agent == "reads" else None)
    await world.reaches(task.id, "runnable")
    await world._delete(objects_stream(world.names.artifacts))
    go.set()
    await world.reaches(task.id, "running")
    return task.id, executor


@pytest.mark.parametrize("agent", ["reads", "steps", "returns"])
async def test_a_cancel_ends_it_at_once(world: World, app: Mesh, agent: str, go: asyncio.Event) -> None:
    task, executor = await stuck(world, app, agent, go)
    await world.client.cancel(task)
    outcome = await world.outcome(task)
    assert outcome.result.state == "canceled"
    assert outcome.entries[-1].commit.by.startswith("executor/")
    await eventually(lambda: not executor.service.busy())
    await eventually(world.queue_is_empty)


@pytest.mark.parametrize("agent", ["reads", "steps", "returns"])
async def test_a_worker_that_leaves_hands_it_back(world: World, app: Mesh, agent: str, go: asyncio.Event) -> None:
    world.set(drain_s=0.0)
    task, executor = await stuck(world, app, agent, go)
    async with asyncio.timeout(20):
        await executor.stop()
    types = [one.type for entry in await world.entries(task) for one in entry.commit.events]
    assert types[-1] == "task.released"
