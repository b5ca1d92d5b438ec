"""Timers fire by the broker's clock, however the clock of the machine that sets them is wrong."""

from __future__ import annotations

import asyncio
import time

import pytest

from mesh import Context, Mesh
from mesh.clock import SystemClock
from mesh.testing import eventually
from tests.integration.stubborn import Stubborn
from tests.integration.world import World

HOUR_S = 3600.0


@pytest.fixture(params=[-HOUR_S, HOUR_S], ids=["an hour slow", "an hour fast"])
def wrong_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SystemClock, "now", lambda self: time.time() + request.param)


@pytest.mark.usefixtures("wrong_clock")
async def test_a_cancel_gives_a_handler_its_time_to_clean_up(world: World) -> None:
    world.set(cancel_grace_s=30.0)
    app, begun, cleaned = Mesh("shop"), asyncio.Event(), asyncio.Event()

    @app.agent
    async def careful(ctx: Context) -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await later(world)
            cleaned.set()

    await world.serve(app)
    task = await world.client.submit("careful", None)
    await begun.wait()
    await task.cancel()
    outcome = await world.outcome(task.id)
    assert cleaned.is_set()
    assert (outcome.result.state, outcome.entries[-1].commit.by.partition("/")[0]) == ("canceled", "executor")


async def later(world: World) -> None:
    """Returns when a timer that is over already would have fired: the broker has fired another one."""
    subject = f"{world.names.prefix}.later.probe-x"
    headers = {"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": world.names.fired("x")}
    await world.bus.publish(subject, b"{}", headers=headers)

    async def fired() -> bool:
        return not await world.bus.counts(world.names.work, subject)

    await eventually(fired)


@pytest.mark.usefixtures("wrong_clock")
async def test_a_cancel_ends_a_task_whose_handler_does_not_stop(world: World) -> None:
    app = Mesh("shop")
    stubborn = Stubborn(app)

    await world.serve(app)
    task = await world.client.submit("stubborn", None)
    await stubborn.begun.wait()
    await task.cancel()
    outcome = await world.outcome(task.id)
    stubborn.over.set()
    assert (outcome.result.state, outcome.entries[-1].commit.by.partition("/")[0]) == ("canceled", "router")


@pytest.mark.usefixtures("wrong_clock")
async def test_a_task_whose_code_changed_is_resumed_by_the_next_version(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.executor.execution.RESUME_AFTER_S", 0.3)
    gate, begun = asyncio.Event(), asyncio.Event()

    def version(*names: str) -> Mesh:
        app = Mesh("shop")

        @app.agent
        async def changes(ctx: Context) -> str:
            for name in names:
                await ctx.step(name, lambda name=name: name)
            begun.set()
            await gate.wait()
            return names[0]

        return app

    await world.router()
    first = await world.executor(version("a"), "1")
    task = await world.client.submit("changes", None)
    await begun.wait()
    await first.stop()
    second = await world.executor(version("b"), "2")
    assert await world.reaches(task.id, "suspended")
    await second.stop()
    gate.set()
    await world.executor(version("a"), "3")
    assert (await world.outcome(task.id)).result.output == "a"
