"""A cancel of a task that waits for others: its handler is called again and told where it waits (X1)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from mesh import Context, Mesh, StepFailed, TaskCancelled
from mesh.agents.tools import Tool
from mesh.log import ops
from mesh.log.driver import Driver
from mesh.log.head import Entry
from mesh.log.ops import Append
from mesh.testing import eventually
from mesh.testing.local_mesh import Serving
from schemas.object import LARGE_BYTES
from schemas.task import TaskSuspended
from services.executor.following import Follower
from tests.integration.world import Outcome, World


@pytest.fixture(autouse=True)
def short_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.agents.durable.HOLD_S", 0.05)


class Upstream:
    """A system outside of the mesh that works for a task until somebody tells it to stop."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.stopped: list[str] = []
        self.calls: list[str] = []
        self.refused: list[str] = []
        self.answer = asyncio.Event()
        self.requested = asyncio.Event()

    async def begin(self) -> str:
        self.begun.append("job")
        return f"job {len(self.begun)}"

    async def stop(self, job: str) -> None:
        await asyncio.sleep(0)
        self.stopped.append(job)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.requested.set()


@pytest.fixture
def app(upstream: Upstream) -> Mesh:
    app = Mesh("shop")

    @app.tool(idempotent=True)
    async def answers(name: str) -> str:
        upstream.calls.append(name)
        try:
            await upstream.answer.wait()
        except asyncio.CancelledError:
            await upstream.requested.wait()
            raise
        return name

    @app.agent
    async def attaches(ctx: Context) -> str:
        job = await ctx.step("begin", upstream.begin)
        try:
            return await ctx.tool(answers, "one")
        except asyncio.CancelledError:
            if ctx.cancelled:
                await upstream.stop(job)
            raise

    @app.agent
    async def tries_more(ctx: Context) -> str:
        try:
            return await ctx.tool(answers, "one")
        finally:
            if ctx.cancelled:
                for begin in (ctx.step("more", upstream.begin), ctx.tool(answers, "more")):
                    try:
                        await begin
                    except TaskCancelled as error:
                        upstream.refused.append(error.code)

    add_branching(app, answers, upstream)
    return app


def add_branching(app: Mesh, answers: Tool[..., Any], upstream: Upstream) -> None:
    """Agents whose branches wait side by side."""

    @app.agent
    async def gathers(ctx: Context) -> list[str]:
        job = await ctx.step("begin", upstream.begin)
        left, right = ctx.branch("left"), ctx.branch("right")
        try:
            return list(await asyncio.gather(left.tool(answers, "left"), right.tool(answers, "right")))
        except asyncio.CancelledError:
            if ctx.cancelled:
                await upstream.stop(job)
            raise

    @app.agent
    async def groups(ctx: Context) -> None:
        job = await ctx.step("begin", upstream.begin)
        try:
            async with asyncio.TaskGroup() as group:
                for name in ("left", "right"):
                    group.create_task(ctx.branch(name).tool(answers, name))
        except asyncio.CancelledError:
            if ctx.cancelled:
                await upstream.stop(job)
            raise


async def suspended(world: World, app: Mesh, agent: str) -> tuple[str, Serving]:
    """A task of this agent that waits, and its executor."""
    await world.runner(app)
    executor = await world.serve(app)
    task = await world.client.submit(agent, None)
    await world.reaches(task.id, "suspended")
    return task.id, executor


async def cancel(world: World, upstream: Upstream, task: str) -> Outcome:
    """Asks it to stop; its tools end once the request is in the log."""
    assert (await world.client.cancel(task)).outcome == "appended"
    upstream.requested.set()
    return await world.outcome(task)


def after_the_request(outcome: Outcome) -> list[str]:
    return outcome.types[outcome.types.index("cancel.requested") + 1 :]


@pytest.mark.parametrize("agent", ["attaches", "gathers", "groups"])
async def test_a_suspended_handler_is_called_again_and_may_cancel_upstream(
    world: World, app: Mesh, upstream: Upstream, agent: str
) -> None:
    task, _ = await suspended(world, app, agent)
    assert upstream.stopped == []
    outcome = await cancel(world, upstream, task)
    assert outcome.result.state == "canceled"
    assert outcome.entries[-1].commit.by.startswith("executor/")
    assert (upstream.begun, upstream.stopped) == (["job"], ["job 1"])
    assert set(after_the_request(outcome)) <= {"task.started", "step.failed", "task.canceled"}
    await eventually(world.queue_is_empty)


async def test_the_clean_up_of_a_suspended_handler_begins_nothing_in_the_mesh(
    world: World, app: Mesh, upstream: Upstream
) -> None:
    task, _ = await suspended(world, app, "tries_more")
    assert (await cancel(world, upstream, task)).result.state == "canceled"
    assert upstream.refused == [TaskCancelled.code] * 2
    assert (upstream.begun, upstream.calls) == ([], ["one"])


async def test_a_handler_that_is_set_aside_or_handed_back_is_not_told_that_it_was_canceled(
    world: World, app: Mesh, upstream: Upstream
) -> None:
    task, executor = await suspended(world, app, "attaches")
    upstream.answer.set()
    assert (await world.outcome(task)).result.output == "one"
    assert upstream.stopped == []
    upstream.answer.clear()
    again = await world.client.submit("attaches", None)
    await world.reaches(again.id, "suspended")
    await executor.stop()
    assert upstream.stopped == []


async def test_a_cancel_that_comes_before_the_suspension_is_stored_is_told_to_the_handler(
    world: World, app: Mesh, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = Driver.answer, list[str]()

    async def answer(driver: Driver, op: ops.Op) -> object:
        if isinstance(op, Append) and isinstance(op.commit.events[-1].data, TaskSuspended) and not asked:
            asked.append((await world.client.cancel(op.commit.task)).outcome)
        return await real(driver, op)

    monkeypatch.setattr(Driver, "answer", answer)
    await world.runner(app)
    await world.serve(app)
    task = await world.client.submit("attaches", None)
    outcome = await world.outcome(task.id)
    assert (outcome.result.state, asked) == ("canceled", ["appended"])
    assert "task.suspended" not in outcome.types
    assert upstream.stopped == ["job 1"]


@pytest.mark.parametrize("size", [1, LARGE_BYTES + 1], ids=["small input", "large input"])
async def test_a_cancel_that_comes_while_the_handler_is_set_aside_is_told_to_it(
    world: World, app: Mesh, upstream: Upstream, size: int
) -> None:
    aside, told = asyncio.Event(), list[bool]()

    @app.agent
    async def leaves_slowly(ctx: Context, text: str) -> Any:
        try:
            return await ctx.tool("answers", {"name": "one"})
        except asyncio.CancelledError:
            told.append(ctx.cancelled)
            aside.set()
            await upstream.requested.wait()
            raise

    await world.runner(app)
    await world.serve(app)
    task = await world.client.submit(leaves_slowly, "x" * size)
    await aside.wait()
    outcome = await cancel(world, upstream, task.id)
    assert (outcome.result.state, told) == ("canceled", [False, True])


@pytest.mark.parametrize("then", ["waits", "has a step", "calls a tool"])
async def test_a_cancel_in_the_middle_of_the_recorded_steps_is_told_behind_them(world: World, then: str) -> None:
    """The handler is called again by another executor, and canceled while it is at its first recorded step."""
    app, told, made = Mesh("shop"), list[str](), list[str]()
    again, go, wait = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.tool
    async def makes() -> None:
        made.append("call")

    @app.agent
    async def slow(ctx: Context) -> None:
        await ctx.step("first", lambda: None)
        if ctx.task.attempt > 1:
            again.set()
            await go.wait()
        try:
            await ctx.step("second", lambda: None)
            wait.set()
            if ctx.task.attempt > 1 and then == "has a step":
                await ctx.step("third", lambda: made.append("step"))
            if ctx.task.attempt > 1 and then == "calls a tool":
                await ctx.tool(makes)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            told.append(f"{ctx.task.attempt} {ctx.cancelled}")
            raise

    await world.router()
    await world.runner(app)
    world.set(drain_s=0.0)
    executor = await world.executor(app)
    task = await world.client.submit(slow, None)
    await wait.wait()
    await executor.stop()
    await world.executor(app)
    await again.wait()
    await task.cancel()
    go.set()
    assert (await world.outcome(task.id)).result.state == "canceled"
    assert (told, made) == (["1 False", "2 True"], [])


async def test_a_handler_that_does_not_come_to_where_it_waited_is_ended_all_the_same(
    world: World, app: Mesh, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.executor.stopping.PASSING_S", 0.05)
    entered = list[int]()

    @app.agent
    async def dawdles(ctx: Context) -> None:
        entered.append(ctx.task.attempt)
        if ctx.task.attempt > 1:
            await asyncio.Event().wait()
        await ctx.tool("answers", {"name": "one"})

    world.set(cancel_grace_s=30.0)
    task, _ = await suspended(world, app, "dawdles")
    outcome = await cancel(world, upstream, task)
    assert outcome.entries[-1].commit.by.startswith("executor/")
    assert entered == [1, 2]


async def test_a_step_that_a_canceled_handler_comes_to_anew_is_not_begun(
    world: World, app: Mesh, upstream: Upstream
) -> None:
    """What it waited for has failed by the cancel, and it would go on with something else."""

    @app.agent
    async def persists(ctx: Context) -> Any:
        try:
            return await ctx.tool("answers", {"name": "one"})
        except StepFailed:
            return await ctx.step("another way", upstream.begin)

    task, _ = await suspended(world, app, "persists")
    assert (await cancel(world, upstream, task)).result.state == "canceled"
    assert upstream.begun == []


async def test_a_call_that_the_cancel_stopped_is_no_answer_to_a_handler_that_waits_for_it(
    world: World, app: Mesh, upstream: Upstream
) -> None:
    task, executor = await suspended(world, app, "attaches")
    await executor.stop()
    await world.client.cancel(task)
    upstream.requested.set()

    async def failed() -> bool:
        return any(one.type == "step.failed" for entry in await world.entries(task) for one in entry.commit.events)

    await eventually(failed)
    await world.executor(app)
    assert (await world.outcome(task)).result.state == "canceled"
    assert upstream.stopped == ["job 1"]


async def test_a_call_that_the_cancel_stops_while_the_handler_comes_back_to_it_is_no_answer_either(
    world: World, app: Mesh, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, again, heard, told = Follower.told, asyncio.Event(), asyncio.Event(), list[str]()

    def hear(follower: Follower, entry: Entry) -> None:
        real(follower, entry)
        heard.set()

    @app.agent
    async def comes_slowly(ctx: Context) -> None:
        if ctx.task.attempt > 1:
            again.set()
            await heard.wait()
        try:
            await ctx.tool("answers", {"name": "one"})
        except StepFailed:
            told.append("failed")
        except asyncio.CancelledError:
            told.append(f"canceled {ctx.cancelled}")
            raise

    task, _ = await suspended(world, app, "comes_slowly")
    monkeypatch.setattr(Follower, "told", hear)
    assert (await world.client.cancel(task)).outcome == "appended"
    await again.wait()
    upstream.requested.set()
    assert (await world.outcome(task)).result.state == "canceled"
    assert (heard.is_set(), told[-1:]) == (True, ["canceled True"])


async def test_a_second_cancel_does_not_cut_the_clean_up(world: World) -> None:
    app, begun, cleaning, go, done = Mesh("shop"), asyncio.Event(), asyncio.Event(), asyncio.Event(), list[str]()

    @app.agent
    async def cleans(ctx: Context) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await go.wait()
            done.append("cleaned up")

    world.set(cancel_grace_s=30.0)
    await world.serve(app)
    task = await world.client.submit(cleans, None)
    await begun.wait()
    await task.cancel()
    await cleaning.wait()
    assert (await task.cancel()).outcome == "known"
    go.set()
    assert (await world.outcome(task.id)).result.state == "canceled"
    assert done == ["cleaned up"]
