"""Cancel at any moment: one outcome, the same in log, tail and result (behaviour 3)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from mesh import Context, Mesh
from mesh.log import ops
from mesh.log.driver import Driver
from mesh.service import Stamp
from mesh.testing import eventually
from schemas.signal import TaskSignal
from services.router.registry import AgentRegistry
from services.router.rules import Router, cancel
from tests.integration.world import World


class Gates:
    """What the handlers of these tests wait for and say."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.thread = threading.Event()
        self.go = asyncio.Event()
        self.cleaned = asyncio.Event()
        self.late: list[str] = []


@pytest.fixture
def gates() -> Iterator[Gates]:
    gates = Gates()
    yield gates
    gates.thread.set()


@pytest.fixture
def app(gates: Gates) -> Mesh:
    app = Mesh("shop")

    @app.agent
    async def waits(ctx: Context) -> str:
        gates.begun.set()
        try:
            await gates.go.wait()
        finally:
            gates.cleaned.set()
        return "done"

    @app.agent
    async def blocks(ctx: Context) -> str:
        loop = asyncio.get_running_loop()

        def block() -> str:
            loop.call_soon_threadsafe(gates.begun.set)
            gates.thread.wait()
            gates.late.append("the thread came to its end")
            return "late"

        return await ctx.step("block", block)

    @app.agent
    async def swallows(ctx: Context) -> str:
        gates.begun.set()
        while not gates.go.is_set():
            try:
                await gates.go.wait()
            except asyncio.CancelledError:
                gates.cleaned.set()
        return "too late"

    @app.agent
    async def loops(ctx: Context) -> str:
        gates.begun.set()
        for n in range(1_000_000):
            await ctx.step(f"s{n}", lambda: None)
        return "never"

    return app


async def test_a_task_that_waits_in_the_queue_ends_at_once(world: World, app: Mesh) -> None:
    await world.router()
    executor = await world.executor(app)
    await executor.stop()
    task = await world.client.submit("waits", None)
    await world.reaches(task.id, "runnable")
    answer = await task.cancel("no need")
    assert answer.outcome == "ended_now"
    outcome = await world.outcome(task.id)
    assert outcome.types == ["task.accepted", "cancel.requested", "task.canceled"]
    await world.executor(app)
    await eventually(world.queue_is_empty)
    assert await world.outcome(task.id) == outcome


async def test_a_running_handler_is_cancelled_and_may_clean_up(world: World, app: Mesh, gates: Gates) -> None:
    await world.serve(app)
    task = await world.client.submit("waits", None)
    await gates.begun.wait()
    assert (await task.cancel()).outcome == "appended"
    outcome = await world.outcome(task.id)
    assert outcome.result.state == "canceled"
    assert gates.cleaned.is_set()
    await eventually(world.queue_is_empty)


async def test_a_loop_of_steps_is_stopped_between_two_of_them(world: World, app: Mesh, gates: Gates) -> None:
    await world.serve(app)
    task = await world.client.submit("loops", None)
    await gates.begun.wait()
    await task.cancel()
    outcome = await world.outcome(task.id)
    after = outcome.types[outcome.types.index("cancel.requested") + 1 :]
    # The step that was being made when the request came is recorded, as it has happened; none begins after it.
    assert after in (["task.canceled"], ["step.requested", "step.completed", "task.canceled"])


async def test_a_blocking_thread_is_abandoned_counted_and_refused(world: World, app: Mesh, gates: Gates) -> None:
    executor = await world.serve(app)
    task = await world.client.submit("blocks", None)
    await gates.begun.wait()
    await task.cancel()
    outcome = await world.outcome(task.id)
    assert outcome.result.state == "canceled"
    threads = executor.service._threads  # type: ignore[attr-defined]
    assert threads.abandoned == 1
    gates.thread.set()

    async def ended() -> bool:
        return bool(gates.late) and not threads.abandoned

    await eventually(ended)
    assert await world.outcome(task.id) == outcome


async def test_a_second_cancel_changes_nothing(world: World, app: Mesh, gates: Gates) -> None:
    await world.serve(app)
    task = await world.client.submit("waits", None)
    await gates.begun.wait()
    answers = await asyncio.gather(*(task.cancel(f"no {n}") for n in range(5)))
    assert {answer.outcome for answer in answers} <= {"appended", "known", "ended"}
    outcome = await world.outcome(task.id)
    assert outcome.types.count("cancel.requested") == 1
    assert (await task.cancel()).outcome == "ended"
    assert await world.outcome(task.id) == outcome


async def test_a_cancel_after_the_end_changes_nothing(world: World, app: Mesh, gates: Gates) -> None:
    await world.serve(app)
    gates.go.set()
    task = await world.client.submit("waits", None)
    outcome = await world.outcome(task.id)
    assert outcome.result.output == "done"
    assert (await task.cancel()).outcome == "ended"
    assert await world.outcome(task.id) == outcome


async def test_a_cancel_whose_broadcast_is_lost_still_ends_the_task(world: World, app: Mesh, gates: Gates) -> None:
    await world.serve(app)
    task = await world.client.submit("waits", None)
    await gates.begun.wait()
    driver = Driver(world.bus, world.names)
    router = Router(names=world.names, writer=Stamp("router", "r"), registry=AgentRegistry())

    async def lossy(op: ops.Op) -> Any:
        return None if isinstance(op, ops.Tell) else await driver.answer(op)

    answer = await ops.drive(cancel(router, task.id, TaskSignal(kind="cancel", id="c")), lossy)
    assert answer.outcome == "appended"
    assert (await world.outcome(task.id)).result.state == "canceled"


async def test_a_cancel_that_overtakes_its_submit_leaves_a_tombstone(world: World, app: Mesh, gates: Gates) -> None:
    await world.serve(app)
    assert (await world.client.cancel("early", "never mind")).outcome == "tombstone"
    await world.client.submit("waits", None, task_id="early")
    outcome = await world.outcome("early")
    assert outcome.types == ["task.canceled"]
    await eventually(world.queue_is_empty)
    assert not gates.begun.is_set()


async def test_a_handler_that_swallows_its_cancellation_is_ended_by_the_router(
    world: World, app: Mesh, gates: Gates
) -> None:
    await world.serve(app)
    task = await world.client.submit("swallows", None)
    await gates.begun.wait()
    await task.cancel()
    outcome = await world.outcome(task.id)
    assert outcome.result.state == "canceled"
    assert outcome.entries[-1].commit.by.startswith("router/")
    assert gates.cleaned.is_set()
    gates.go.set()
    await eventually(world.queue_is_empty)
    assert await world.outcome(task.id) == outcome


async def test_a_broadcast_without_a_request_in_the_log_ends_nothing(world: World, app: Mesh, gates: Gates) -> None:
    await world.serve(app)
    task = await world.client.submit("waits", None)
    await gates.begun.wait()
    gates.begun.clear()
    await world.bus.send(world.names.cancel(task.id), msgspec.json.encode({"task": task.id}))
    await gates.begun.wait()
    gates.go.set()
    outcome = await world.outcome(task.id)
    assert outcome.result.output == "done"


async def test_a_suspended_task_can_be_cancelled(world: World, gates: Gates) -> None:
    first, second = Mesh("shop"), Mesh("shop")

    @first.agent(name="two")
    async def one(ctx: Context) -> None:
        await ctx.step("old", lambda: None)
        gates.begun.set()
        await gates.go.wait()

    @second.agent(name="two")
    async def other(ctx: Context) -> None:
        await ctx.step("new", lambda: None)

    await world.router()
    executor = await world.executor(first, "1")
    task = await world.client.submit("two", None)
    await gates.begun.wait()
    await executor.stop()
    await world.executor(second, "2")
    await world.reaches(task.id, "suspended")
    assert (await task.cancel()).outcome == "appended"
    outcome = await world.outcome(task.id)
    assert outcome.result.state == "canceled"
    assert outcome.entries[-1].commit.by.startswith("executor/")
    await eventually(world.queue_is_empty)


@pytest.mark.parametrize(
    "body",
    [
        TaskSignal(kind="cancel", id="c", reply="no subject at all", reason="x"),
        TaskSignal(kind="cancel", id="c", reply="mesh.task.t.t", reason="x"),
        TaskSignal(kind="cancel", id="c", reason="x" * 900_000),
        TaskSignal(kind="cancel", id="c" * 900_000),
        TaskSignal(kind="dance", id="c"),
        TaskSignal(kind="steer", id="c", body="x" * 900_000),
        "no signal",
    ],
    ids=["reply", "foreign reply", "long reason", "long id", "kind", "long message", "text"],
)
async def test_a_bad_task_signal_neither_circles_nor_harms_its_task(
    world: World, app: Mesh, gates: Gates, body: object
) -> None:
    await world.serve(app)
    task = await world.client.submit("waits", None)
    await gates.begun.wait()
    await world.bus.publish(world.names.signal(task.id), msgspec.json.encode(body))

    async def no_signal_is_left() -> bool:
        return not await world.queued("signal")

    await eventually(no_signal_is_left)
    gates.go.set()
    outcome = await world.outcome(task.id)
    assert outcome.result.state in ("completed", "canceled")


@pytest.mark.parametrize("subject", ["signal.a", "signal.a.b", "signal.a.b.c", "signal.x--y.x--y", "fired.a.b.c.d"])
async def test_a_signal_on_a_subject_that_names_no_task_is_a_dead_letter(world: World, subject: str) -> None:
    await world.router()
    await world.bus.publish(f"{world.settings.prefix}.{subject}", b"{}")
    await eventually(lambda: world.dead("invalid_subject"))
    await eventually(world.queue_is_empty)
