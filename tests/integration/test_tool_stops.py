"""Tool calls that are stopped: by a cancel, a deadline, or a runner that leaves."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mesh import Context, Mesh, ToolContext
from mesh.testing import Processes, eventually
from mesh.testing.local_mesh import Serving
from schemas.step import StepFailed, StepStarted
from tests.integration.world import Outcome, World

FAMILY = Path(__file__).parent / "family.py"
TARGET = f"{Path(__file__).parent / 'slow_tools.py'}:app"


class Gates:
    """What the tools of these tests wait for and say."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.thread = threading.Event()
        self.cleaned = asyncio.Event()
        self.calls = 0
        self.pids = Path()


@pytest.fixture
def gates(tmp_path: Path) -> Iterator[Gates]:
    gates = Gates()
    gates.pids = tmp_path / "pids"
    yield gates
    gates.thread.set()


@pytest.fixture
def app(gates: Gates) -> Mesh:
    app = Mesh("shop")

    @app.tool
    async def family(ctx: ToolContext) -> None:
        await ctx.execute([sys.executable, str(FAMILY), str(gates.pids)])

    @app.tool
    def blocks() -> str:
        gates.calls += 1
        gates.thread.wait()
        return "late"

    @app.tool(idempotent=True, max_attempts=5, backoff_s=50)
    async def flaky() -> None:
        gates.calls += 1
        gates.begun.set()
        raise ValueError("no")

    @app.tool(idempotent=True)
    async def stubborn() -> str:
        gates.begun.set()
        while not gates.go.is_set():
            try:
                await gates.go.wait()
            except asyncio.CancelledError:
                gates.cleaned.set()
        return "too late"

    @app.agent
    async def calls(ctx: Context, tool: str) -> Any:
        return await ctx.tool(tool, {})

    @app.agent
    async def hurries(ctx: Context, tool: str) -> Any:
        return await ctx.tool(tool, {}, timeout_s=2.0)

    add_waiting(app, gates)
    return app


def add_waiting(app: Mesh, gates: Gates) -> None:
    """One tool under three policies; it waits until the test lets it go."""

    async def waits() -> str:
        gates.calls += 1
        gates.begun.set()
        try:
            await gates.go.wait()
        finally:
            gates.cleaned.set()
        return "done"

    app.tool(name="waits")(waits)
    app.tool(name="again", idempotent=True)(waits)
    app.tool(name="narrow", idempotent=True, max_concurrent=1)(waits)


async def serve(world: World, app: Mesh) -> Serving:
    await world.router()
    runner = await world.runner(app)
    await world.executor(app)
    return runner


def idle(runner: Serving) -> bool:
    return not runner.service.busy()


def error_of(outcome: Outcome) -> Any:
    failed = [one.data for entry in outcome.entries for one in entry.commit.events if isinstance(one.data, StepFailed)]
    assert len(failed) == 1
    return failed[0].error


def starts(outcome: Outcome) -> int:
    return sum(isinstance(one.data, StepStarted) for entry in outcome.entries for one in entry.commit.events)


def gone(pid: int) -> bool:
    """Whether a process is no more, or is a zombie that its new parent has not waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


async def family_of(gates: Gates) -> list[int]:
    def both() -> list[int]:
        pids = [int(line) for line in gates.pids.read_text().splitlines()] if gates.pids.exists() else []
        return pids if len(pids) == 2 else []

    return await eventually(both)


async def test_a_running_tool_is_cancelled_with_its_task(world: World, app: Mesh, gates: Gates) -> None:
    runner = await serve(world, app)
    task = await world.client.submit("calls", "waits")
    await gates.begun.wait()
    await task.cancel()
    outcome = await world.outcome(task.id)
    assert outcome.result.state == "canceled"
    await gates.cleaned.wait()
    await eventually(lambda: idle(runner))
    await eventually(world.queue_is_empty)
    assert await world.outcome(task.id) == outcome


async def test_a_cancel_ends_all_processes_of_a_subprocess_tool(world: World, app: Mesh, gates: Gates) -> None:
    await serve(world, app)
    task = await world.client.submit("calls", "family")
    pids = await family_of(gates)
    await task.cancel()
    assert (await world.outcome(task.id)).result.state == "canceled"
    await eventually(lambda: all(gone(pid) for pid in pids))
    await eventually(world.queue_is_empty)


async def test_a_time_out_ends_all_processes_of_a_subprocess_tool(world: World, app: Mesh, gates: Gates) -> None:
    await serve(world, app)
    task = await world.client.submit("hurries", "family")
    pids = await family_of(gates)
    assert error_of(await world.outcome(task.id)).code == "tool_timeout"
    assert all(gone(pid) for pid in pids)


async def test_the_result_of_a_blocking_tool_is_refused_after_a_cancel(world: World, app: Mesh, gates: Gates) -> None:
    runner = await serve(world, app)
    threads = runner.service._handlers.threads  # type: ignore[attr-defined]
    task = await world.client.submit("calls", "blocks")
    await eventually(lambda: gates.calls)
    await task.cancel()
    outcome = await world.outcome(task.id)
    assert outcome.result.state == "canceled"
    await eventually(lambda: threads.abandoned == 1)
    gates.thread.set()
    await eventually(lambda: threads.abandoned == 0)
    await eventually(world.queue_is_empty)
    assert await world.outcome(task.id) == outcome


async def test_a_task_suspended_on_a_tool_can_be_cancelled(world: World, app: Mesh, gates: Gates) -> None:
    await serve(world, app)
    task = await world.client.submit("calls", "waits")
    await world.reaches(task.id, "suspended")
    await task.cancel()
    outcome = await world.outcome(task.id)
    assert outcome.result.state == "canceled"
    await gates.cleaned.wait()
    await eventually(world.queue_is_empty)


async def test_a_deadline_stops_a_running_tool(world: World, app: Mesh, gates: Gates) -> None:
    world.set(ack_wait_s=0.6)
    runner = await serve(world, app)
    task = await world.client.submit("calls", "waits", deadline_s=0.5)
    outcome = await world.outcome(task.id)
    assert outcome.result.error
    assert outcome.result.error.code == "deadline_exceeded"
    await gates.cleaned.wait()
    await eventually(lambda: idle(runner))
    await eventually(world.queue_is_empty)


async def test_a_cancel_does_not_wait_for_the_next_attempt(world: World, app: Mesh, gates: Gates) -> None:
    runner = await serve(world, app)
    task = await world.client.submit("calls", "flaky")
    await gates.begun.wait()
    await task.cancel()
    assert (await world.outcome(task.id)).result.state == "canceled"
    await eventually(lambda: idle(runner))
    assert gates.calls == 1


async def test_a_tool_that_a_broadcast_stopped_is_recorded_behind_the_request(
    world: World, app: Mesh, gates: Gates
) -> None:
    await serve(world, app)
    task = await world.client.submit("calls", "again")
    await gates.begun.wait()
    await world.bus.send(world.names.cancel(task.id), msgspec.json.encode({"task": task.id}))
    await gates.cleaned.wait()
    await task.cancel()
    outcome = await world.outcome(task.id)
    assert outcome.result.state == "canceled"
    assert "step.failed" not in outcome.types[: outcome.types.index("cancel.requested")]


async def test_a_tool_that_swallows_its_cancellation_is_left_behind(world: World, app: Mesh, gates: Gates) -> None:
    runner = await serve(world, app)
    threads = runner.service._handlers.threads  # type: ignore[attr-defined]
    task = await world.client.submit("calls", "stubborn")
    await gates.begun.wait()
    await task.cancel()
    assert (await world.outcome(task.id)).result.state == "canceled"
    await gates.cleaned.wait()
    await eventually(lambda: threads.abandoned == 1)
    await eventually(lambda: idle(runner))
    gates.go.set()
    await eventually(lambda: threads.abandoned == 0)


async def test_a_runner_that_drains_lets_its_tool_end(world: World, app: Mesh, gates: Gates) -> None:
    runner = await serve(world, app)
    task = await world.client.submit("calls", "waits")
    await gates.begun.wait()
    draining = asyncio.create_task(runner.drain())
    gates.go.set()
    await draining
    outcome = await world.outcome(task.id)
    assert (outcome.result.output, starts(outcome)) == ("done", 1)


async def test_a_runner_that_must_leave_hands_a_repeatable_call_back(world: World, app: Mesh, gates: Gates) -> None:
    runner = await serve(world, app)
    task = await world.client.submit("calls", "again")
    await gates.begun.wait()
    await runner.stop()
    assert gates.cleaned.is_set()
    gates.go.set()
    await world.runner(app)
    outcome = await world.outcome(task.id)
    assert (outcome.result.output, starts(outcome), gates.calls) == ("done", 2, 2)


async def test_a_runner_that_must_leave_says_that_an_outcome_is_unknown(world: World, app: Mesh, gates: Gates) -> None:
    runner = await serve(world, app)
    task = await world.client.submit("calls", "waits")
    await gates.begun.wait()
    await runner.stop()
    await world.runner(app)
    outcome = await world.outcome(task.id)
    assert error_of(outcome).code == "tool_outcome_unknown"
    assert "cut off" in error_of(outcome).message
    assert (starts(outcome), gates.calls) == (1, 1)
    await eventually(world.queue_is_empty)


async def test_a_runner_that_drains_hands_back_what_waits_for_room(world: World, app: Mesh, gates: Gates) -> None:
    runner = await serve(world, app)
    first = await world.client.submit("calls", "narrow")
    await gates.begun.wait()
    second = await world.client.submit("calls", "narrow")
    await eventually(lambda: len(runner.service.busy()) == 2)
    draining = asyncio.create_task(runner.drain())
    await world.runner(app)
    await eventually(lambda: gates.calls == 2)
    gates.go.set()
    await draining
    for task in (first, second):
        outcome = await world.outcome(task.id)
        assert (outcome.result.output, starts(outcome)) == ("done", 1)


async def test_a_cancelled_call_does_not_wait_for_room(world: World, app: Mesh, gates: Gates) -> None:
    runner = await serve(world, app)
    first = await world.client.submit("calls", "narrow")
    await gates.begun.wait()
    second = await world.client.submit("calls", "narrow")
    await eventually(lambda: len(runner.service.busy()) == 2)
    await second.cancel()
    assert (await world.outcome(second.id)).result.state == "canceled"
    await eventually(lambda: runner.service.busy() == [first.id])
    assert gates.calls == 1
    gates.go.set()
    assert (await world.outcome(first.id)).result.output == "done"
    await eventually(world.queue_is_empty)


async def test_a_runner_that_leaves_while_a_call_rests_hands_it_back(world: World, app: Mesh, gates: Gates) -> None:
    runner = await serve(world, app)
    await world.client.submit("calls", "flaky")
    await gates.begun.wait()
    await runner.stop()
    gates.begun.clear()
    await world.runner(app)
    await gates.begun.wait()
    assert gates.calls == 2


async def test_a_runner_that_is_killed_takes_its_programs_with_it(world: World, gates: Gates) -> None:
    await world.router()
    async with Processes(world.url, TARGET, settings=world.settings) as processes:
        await processes.start("executor")
        runner = await processes.start("tool-runner")
        task = await world.client.submit("has_children", str(gates.pids))
        pids = await family_of(gates)
        await runner.kill()
        await eventually(lambda: all(gone(pid) for pid in pids))
        await processes.start("tool-runner")
        assert error_of(await world.outcome(task.id)).code == "tool_outcome_unknown"


@pytest.mark.parametrize(("tool", "ends"), [("brief", "completed"), ("endless", "failed")])
async def test_sigterm_drains_a_tool_runner(world: World, tool: str, ends: str) -> None:
    world.set(drain_s=2.0)
    await world.router()
    async with Processes(world.url, TARGET, settings=world.settings) as processes:
        await processes.start("executor")
        runner = await processes.start("tool-runner")
        task = await world.client.submit("calls", tool)
        async for event in task.tail():
            if event.type == "step.progress":
                break
        await runner.drain()
        outcome = await world.outcome(task.id)
    assert outcome.result.state == ends
    if ends == "failed":
        assert error_of(outcome).code == "tool_outcome_unknown"
