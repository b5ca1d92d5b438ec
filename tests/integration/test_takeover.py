"""A worker whose connection is closed loses at once what it held, and one that answers loses nothing (K1).

Deliveries come again by themselves only after a minute here, so a task that ends was handed on; where no event is told,
after half a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from mesh import Context, Mesh
from mesh.client import Task
from mesh.server import EmbeddedServer
from mesh.settings import Settings
from mesh.testing import LocalMesh, assert_invariants, eventually
from schemas import error as codes
from schemas import task as tasks
from schemas.agent import WorkerRecord
from services.router.rules import MAX_CUT_OFFS
from tests.integration.holding import Holding, cable_to, holding, url_of

NEVER_S = 60.0
SHORT_S = 0.5
SOON_S = 15.0
EFFECTS = {"holds": "hold", "look_up": "look up"}


@pytest.fixture
async def held(mesh_server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[Holding]:
    async with holding(mesh_server, tmp_path, ack_wait_s=NEVER_S, drain_s=0.05) as held:
        yield held


async def submit(held: Holding, service: str, does: str) -> Task:
    """A task that this service is at work on until the gate opens."""
    if service == "executor":
        return await held.mesh.client.submit(does, str(held.gate))
    return await held.mesh.client.submit("calls", {"tool": does, "path": str(held.gate)})


async def test_a_killed_executor_loses_its_task_at_once(held: Holding) -> None:
    first = await held.processes.start("executor")
    task = await submit(held, "executor", "holds")
    await held.lists(first)
    await held.processes.start("executor")
    await first.kill()
    await eventually(lambda: held.effects("hold") == 2, SOON_S)
    held.open_gate()
    assert (await task.result(SOON_S)).output == "held"
    starts, releases = await held.story(task.id)
    assert [one.attempt for one in starts] == [1, 1]
    assert [one.reason for one in releases] == [tasks.CUT_OFF]
    await held.queue_is_empty()


async def test_a_killed_executor_loses_each_of_many_tasks_once(held: Holding) -> None:
    first = await held.processes.start("executor")
    many = [await submit(held, "executor", "holds") for _ in range(20)]
    await held.lists(first, 20)
    await held.processes.start("executor")
    await first.kill()
    await eventually(lambda: held.effects("hold") == 40, SOON_S)
    held.open_gate()
    for task in many:
        assert (await task.result(SOON_S)).output == "held"
        starts, releases = await held.story(task.id)
        assert (len(starts), len(releases)) == (2, 1)


async def test_a_killed_tool_runner_leaves_an_unknown_outcome_at_once(held: Holding) -> None:
    await held.processes.start("executor")
    first = await held.processes.start("tool-runner")
    task = await submit(held, "tool-runner", "charge_card")
    await held.lists(first)
    await held.processes.start("tool-runner")
    await first.kill()
    assert (await task.result(SOON_S)).output == "ask the bank"
    assert held.effects("charge") == 1
    await held.story(task.id)


async def test_a_killed_tool_runner_has_its_call_repeated_at_once_if_that_may_be(held: Holding) -> None:
    await held.processes.start("executor")
    first = await held.processes.start("tool-runner")
    task = await submit(held, "tool-runner", "look_up")
    await held.lists(first)
    await held.processes.start("tool-runner")
    await first.kill()
    await eventually(lambda: held.effects("look up") == 2, SOON_S)
    held.open_gate()
    assert (await task.result(SOON_S)).output == "found"
    await held.story(task.id)


CUT_OFF = [
    ("executor", "pays", "ask the bank"),
    ("executor", "holds", "held"),
    ("tool-runner", "charge_card", "ask the bank"),
    ("tool-runner", "look_up", "found"),
]


@pytest.mark.parametrize(("service", "does", "output"), CUT_OFF, ids=[does for _, does, _ in CUT_OFF])
@pytest.mark.parametrize("events", [True, False], ids=["on the event", "after ack_wait"])
async def test_a_worker_that_is_cut_off_is_fenced_and_writes_nothing_when_it_is_back(
    mesh_server: EmbeddedServer, tmp_path: Path, service: str, does: str, output: str, events: bool
) -> None:
    lease_s = NEVER_S if events else SHORT_S
    async with (
        cable_to(mesh_server) as cable,
        holding(mesh_server, tmp_path, url=url_of(cable), events=events, ack_wait_s=lease_s) as held,
    ):
        first = await held.processes.start(service)
        if service == "tool-runner":
            await held.others.start("executor")
        task = await submit(held, service, does)
        await held.lists(first)
        await held.others.start(service)
        cable.cut()
        cable.drop()
        if output in ("held", "found"):
            await eventually(lambda: held.effects(EFFECTS[does]) == 2, SOON_S)
            held.open_gate()
        assert (await task.result(SOON_S)).output == output
        entries = await held.mesh.log(task.id)
        held.open_gate()
        cable.mend()
        await held.lists(first, 0)
        assert await held.mesh.log(task.id) == entries
        assert held.effects("charge") <= 1
        _, releases = await held.story(task.id)
        assert [one.reason for one in releases] == [tasks.CUT_OFF] * (events and service == "executor")
        await held.queue_is_empty()


async def test_an_executor_that_leaves_in_order_is_not_taken_for_dead(held: Holding) -> None:
    first = await held.processes.start("executor")
    task = await submit(held, "executor", "holds")
    worker = await held.lists(first)
    await held.processes.start("executor")
    assert await first.drain() == 0
    await eventually(lambda: held.effects("hold") == 2, SOON_S)
    assert await held.mesh.bus.fetch(held.mesh.names.workers, worker) is None
    held.open_gate()
    assert (await task.result(SOON_S)).output == "held"
    _, releases = await held.story(task.id)
    assert [one.reason for one in releases] == ["drain"]


async def test_a_tool_runner_that_leaves_in_order_hands_its_call_back_itself(held: Holding) -> None:
    await held.processes.start("executor")
    first = await held.processes.start("tool-runner")
    task = await submit(held, "tool-runner", "look_up")
    worker = await held.lists(first)
    await held.processes.start("tool-runner")
    assert await first.drain() == 0
    await eventually(lambda: held.effects("look up") == 2, SOON_S)
    assert await held.mesh.bus.fetch(held.mesh.names.workers, worker) is None
    held.open_gate()
    assert (await task.result(SOON_S)).output == "found"
    await held.story(task.id)


async def test_a_router_whose_system_user_is_refused_serves_without(mesh_server: EmbeddedServer) -> None:
    wrong = mesh_server.system_url.replace(":", "x:", 2).replace("natsx:", "nats:")
    async with LocalMesh(server=mesh_server, routers=0) as mesh:
        mesh._config["system_url"] = wrong
        router = await mesh.start("router")
        assert await mesh.bus.fetch(mesh.names.workers, router.service.name) is not None


async def test_a_task_that_no_worker_survives_is_handed_on_ten_times_and_then_fails(
    mesh_server: EmbeddedServer,
) -> None:
    app = Mesh("deadly")

    @app.agent
    async def hangs(ctx: Context) -> None:
        await asyncio.Event().wait()

    settings = Settings(ack_wait_s=0.5)
    async with LocalMesh(app, server=mesh_server, settings=settings, executors=0) as mesh:
        task = await mesh.client.submit("hangs", None)
        failed = asyncio.create_task(task.result())
        while not failed.done():
            executor = await mesh.start("executor")

            async def is_listed_or_too_late(name: str = executor.service.name) -> bool:
                body = await mesh.bus.fetch(mesh.names.workers, name)
                return failed.done() or bool(body and msgspec.json.decode(body, type=WorkerRecord).replies)

            await eventually(is_listed_or_too_late)
            await executor.cut_off()
        entries = await mesh.log(task.id)
        assert_invariants(entries)
        data = [event.data for entry in entries for event in entry.commit.events]
        assert sum(isinstance(one, tasks.TaskReleased) for one in data) <= MAX_CUT_OFFS
        assert sum(isinstance(one, tasks.TaskStarted) for one in data) <= MAX_CUT_OFFS + settings.max_attempts
        error = failed.result().error
        assert error
        assert error.code == codes.ATTEMPTS_EXHAUSTED
