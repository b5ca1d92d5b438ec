"""What the processes of a mesh say of themselves."""

from __future__ import annotations

import msgspec
import pytest

from mesh import Context, Mesh
from mesh.testing import eventually
from schemas.agent import AppRecord, WorkerRecord
from tests.integration.world import World


@pytest.mark.parametrize(
    ("given", "own", "said"), [("2", "1", "2"), ("", "1", "1"), ("", None, "0")], ids=["given", "its own", "none"]
)
async def test_registry_presence_and_claim_name_the_same_version(
    world: World, given: str, own: str | None, said: str
) -> None:
    app = Mesh("shop", version=own)

    @app.agent
    async def echo(ctx: Context, value: str) -> str:
        return value

    await world.router()
    executor = await world.executor(app, version=given)
    task = await world.client.submit("echo", "x")
    claim = next(
        event.data
        for entry in (await world.outcome(task.id)).entries
        for event in entry.commit.events
        if event.type == "task.started"
    )
    registered = await world.bus.fetch(world.names.agents, "shop")
    present = await eventually(lambda: world.bus.fetch(world.names.workers, executor.service.name))
    assert registered
    assert present
    assert msgspec.json.decode(registered, type=AppRecord).version == said
    assert msgspec.json.decode(present, type=WorkerRecord).app_version == said
    assert claim.app_version == said


async def test_a_service_that_is_told_to_stop_before_it_takes_work_ends(world: World) -> None:
    router = await world.router()
    await router.drain()
    router.service.stop()
    await router.service.serve(lambda: None)
    assert await world.bus.fetch(world.names.workers, router.service.name) is None
