"""Workers of two versions of one app: each task goes to one that can go on with it."""

from __future__ import annotations

import asyncio

import pytest

from mesh import Context, Mesh
from mesh.testing import eventually
from schemas.task import TaskStarted
from tests.integration.world import Outcome, World

TASKS = 12


def versions_of(outcome: Outcome) -> list[str]:
    """The app versions that claimed a task, in order."""
    events = [event for entry in outcome.entries for event in entry.commit.events]
    return [event.data.app_version for event in events if isinstance(event.data, TaskStarted)]


def with_agents(*names: str) -> Mesh:
    app = Mesh("shop")
    for name in names:

        async def handler(ctx: Context, value: str) -> str:
            return value

        app.agent(name=name)(handler)
    return app


async def test_a_changed_task_goes_on_under_the_version_that_still_lives(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.executor.execution.RESUME_AFTER_S", 0.2)
    gate, begun = asyncio.Event(), asyncio.Semaphore(0)

    def version(step: str) -> Mesh:
        app = Mesh("shop")

        @app.agent
        async def changes(ctx: Context) -> str:
            await ctx.step(step, lambda: step)
            begun.release()
            await gate.wait()
            return step

        return app

    await world.router()
    first = await world.executor(version("a"), "1")
    tasks = [await world.client.submit("changes", None) for _ in range(TASKS)]
    for _ in tasks:
        await begun.acquire()
    await world.executor(version("a"), "1")
    await world.executor(version("b"), "2")  # the newest record names this one
    gate.set()
    await first.stop()
    outcomes = [await world.outcome(task.id) for task in tasks]
    assert {outcome.result.output for outcome in outcomes} == {"a"}
    await eventually(world.queue_is_empty)


async def test_a_task_of_an_agent_that_only_the_new_version_has_waits_for_one_of_its_workers(world: World) -> None:
    await world.router()
    await world.executor(with_agents("old"), "1")
    newer = await world.executor(with_agents("old", "new"), "2")
    await newer.stop()
    task = await world.client.submit("new", "x")
    assert await world.reaches(task.id, "runnable")
    other = await world.client.submit("old", "y")
    assert versions_of(await world.outcome(other.id)) == ["1"]
    await world.executor(with_agents("old", "new"), "2")
    outcome = await world.outcome(task.id)
    assert (outcome.result.output, versions_of(outcome)) == ("x", ["2"])
    await eventually(world.queue_is_empty)


async def test_an_agent_is_known_while_a_worker_lives_that_has_it(world: World) -> None:
    await world.router()
    await world.executor(with_agents("old", "new"), "2")
    await world.executor(with_agents("old"), "1")  # its record takes the place of the other one's
    outcomes = [await world.outcome((await world.client.submit("new", "x")).id) for _ in range(TASKS)]
    assert {outcome.result.output for outcome in outcomes} == {"x"}


async def test_a_task_whose_agent_is_in_no_version_any_more_fails_and_says_so(world: World) -> None:
    await world.router()
    newer = await world.executor(with_agents("old", "new"), "2")
    await newer.stop()
    task = await world.client.submit("new", "x")
    await world.reaches(task.id, "runnable")
    await world.executor(with_agents("old"), "3")
    outcome = await world.outcome(task.id)
    assert outcome.result.error
    assert outcome.result.error.code == "unknown_agent"


async def test_a_waiting_task_of_another_version_can_be_canceled(world: World) -> None:
    await world.router()
    await world.executor(with_agents("old"), "1")
    newer = await world.executor(with_agents("old", "new"), "2")
    await newer.stop()
    task = await world.client.submit("new", "x")
    await world.reaches(task.id, "runnable")
    await task.cancel()
    assert (await world.outcome(task.id)).result.state == "canceled"
    await eventually(world.queue_is_empty)
