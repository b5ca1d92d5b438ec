"""What somebody wrote that is no message, in each of the ways in which bytes can be none, stops nobody."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import msgspec
import pytest

from mesh import Context, Mesh
from mesh.bus import LiveMessage
from mesh.census import census
from mesh.registry import read_registry
from mesh.testing import eventually
from schemas.service import ServicePing
from tests.integration.world import World

app = Mesh("shop")
UNREADABLE = pytest.mark.parametrize(
    "body",
    [b"{", b'{"v":1,"app":"\xff","worker":"\xff","task":"\xff","name":"\xff"}', b'{"x":' + b"[" * 5_000],
    ids=["no JSON", "no UTF-8", "too deep"],
)


@app.agent
async def greet(ctx: Context, name: str) -> str:
    return f"hello {name}"


@UNREADABLE
async def test_a_record_that_cannot_be_read_keeps_no_app_from_being_registered_and_served(
    world: World, body: bytes
) -> None:
    await world.router()
    await world.bus.put(world.names.agents, "other", body)
    await world.bus.put(world.names.workers, "executor-other", body)
    await world.executor(app)
    task = await world.client.submit("greet", "otter")
    assert (await world.outcome(task.id)).result.output == "hello otter"
    assert [one.app for one in (await read_registry(world.bus, world.names)).apps] == ["shop"]


@UNREADABLE
async def test_a_run_command_that_cannot_be_read_keeps_no_other_from_being_missed(world: World, body: bytes) -> None:
    world.set(reconcile_s=0.1)
    await world.router()
    await (await world.executor(app)).stop()
    await world.client.submit("greet", "otter", task_id="t")
    await eventually(lambda: world.queued("run"))
    await world.bus.publish(world.names.run("nobody"), body)
    await world.bus.purge(world.names.runs, world.names.run(app.pool))
    await world.executor(app)
    assert (await world.outcome("t")).result.output == "hello otter"


@UNREADABLE
async def test_an_answer_that_cannot_be_read_hides_none_of_the_others(world: World, body: bytes) -> None:
    answering: list[asyncio.Future[bool]] = []
    good = ServicePing(name="n", id="i", version="1", metadata={})

    def answer(asked: LiveMessage) -> None:
        for one in (body, msgspec.json.encode(good)):
            answering.append(asyncio.ensure_future(world.bus.send(asked.reply, one)))

    async with aclosing(await world.bus.subscribe(f"$SRV.PING.{world.names.prefix}", answer)):
        found = await census(world.bus, f"$SRV.PING.{world.names.prefix}", ServicePing)
    await asyncio.gather(*answering)
    assert [one.id for one in found] == ["i"]
