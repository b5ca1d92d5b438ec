"""A deploy ends no task: services are replaced one after the other, and two versions of an app work side by side.

Deliveries come again by themselves only after the test is over, and an order, and a call of its tool, take longer than
a process that was told to leave: whatever is handed over is handed over in order.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.agents.history import MAX_TASKS
from mesh.server import EmbeddedServer
from mesh.settings import Settings
from mesh.testing import LocalMesh, Processes, assert_invariants, eventually
from schemas.task import TaskStarted
from tests.crash.load import Load, assert_ends, assert_nothing_lost

APPS = Path(__file__).parent / "deploy_app.py"
OLD, NEW = f"{APPS}:old", f"{APPS}:new"
SERVICES = ("router", "executor", "tool-runner", "session-store")
MAX_HEARD = 2 * MAX_TASKS
STEPS = 30
ORDER = {"total": 435, "price": 6, "receipt": "receipt 435"}
CALLERS = 8


@pytest.fixture(autouse=True)
def databases(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where session stores keep their views; the name is filled in for each."""
    monkeypatch.setenv("MESH_DATABASE", f"sqlite:///{tmp_path}/0.db")


async def start(processes: Processes, service: str) -> None:
    """One process more; a session store has a file of its own."""
    folder, _, last = os.environ["MESH_DATABASE"].rpartition("/")
    os.environ["MESH_DATABASE"] = f"{folder}/{int(last.partition('.')[0]) + 1}.db"
    await processes.start(service)


@asynccontextmanager
async def deployed(server: EmbeddedServer, folder: Path) -> AsyncIterator[tuple[LocalMesh, Processes, Processes]]:
    """A mesh whose services are processes, and what serves the old and the new version of its app."""
    settings = Settings(ack_wait_s=100.0, drain_s=0.2)
    async with (
        LocalMesh(server=server, settings=settings, routers=0) as mesh,
        Processes(mesh.url, OLD, settings=mesh.settings, trace=folder / "trace") as old,
        Processes(mesh.url, NEW, settings=mesh.settings, trace=folder / "trace") as new,
    ):
        yield mesh, old, new


async def replace_all(old: Processes, new: Processes) -> None:
    """One process after the other: the new one takes work before the old one leaves."""
    for leaving in list(old.running):
        await start(new, leaving.service)
        assert await leaving.drain() == 0, leaving.said()


async def call(mesh: LocalMesh, until: asyncio.Task[None]) -> int:
    """One short task after the other, and a list of tasks after each; none may be missed. How many."""
    calls = 0
    while not until.done():
        result = await mesh.run("recall", "well?")
        assert (result.error, result.output) == (None, 0)
        sequence = await mesh.bus.last_sequence(mesh.names.tasks)
        assert (await mesh.client.tasks(limit=1, sequence=sequence)).tasks
        calls += 1
    return calls


async def converse(mesh: LocalMesh, until: asyncio.Task[None]) -> int:
    """One conversation, in which every turn hears all turns before it. How many."""
    turns = 0
    while not until.done():
        result = await mesh.run("recall", "well?", context_id="talk")
        assert (result.error, result.output) == (None, min(2 * turns, MAX_HEARD))
        turns += 1
    return turns


async def test_every_service_is_replaced_under_load_and_no_task_fails(
    mesh_server: EmbeddedServer, tmp_path: Path
) -> None:
    async with deployed(mesh_server, tmp_path) as (mesh, old, new):
        for service in SERVICES * 2:
            await start(old, service)
        loads: list[Load] = []
        async with asyncio.TaskGroup() as group:
            replacing = group.create_task(replace_all(old, new))
            beside = [group.create_task(one(mesh, replacing)) for one in (converse, *[call] * CALLERS)]
            while not replacing.done():
                loads.append(Load(mesh.client, "order", STEPS, tasks=30, tails=3, name=f"load{len(loads)}-"))
                await assert_ends(loads[-1], mesh, new)
        assert not old.running
        assert sorted(one.service for one in new.running) == sorted(SERVICES * 2)
        assert all(one.result() > len(SERVICES) for one in beside)
        last = await mesh.bus.last_sequence(mesh.names.tasks)
        for load in loads:
            await assert_nothing_lost(load, mesh, new, ORDER)
            for id in load.ids:
                assert (await mesh.client.get(id, sequence=last)).task.state == "completed"


async def test_two_versions_side_by_side_hand_each_other_what_only_one_of_them_has(
    mesh_server: EmbeddedServer, tmp_path: Path
) -> None:
    async with deployed(mesh_server, tmp_path) as (mesh, old, new):
        for processes in (old, new):
            for service in SERVICES:
                await start(processes, service)
        await assert_refunds(mesh)
        orders = Load(mesh.client, "order", STEPS, tasks=60, tails=0)
        await orders.run()
        await assert_nothing_lost(orders, mesh, new, ORDER)
        versions = {version for id in orders.ids for version in await versions_of(mesh, id)}
        assert versions == {"1", "2"}
        await start(old, "executor")  # the newest record is that of the old version now
        await assert_refunds(mesh)


async def assert_refunds(mesh: LocalMesh) -> None:
    tasks = [await mesh.client.submit("refund", n) for n in range(30)]
    for n, task in enumerate(tasks):
        result = await task.result(30)
        assert (result.output, result.error) == (f"credit {n}", None)
        assert set(await versions_of(mesh, task.id)) == {"2"}

    async def queue_is_empty() -> None:
        assert not await mesh.left_in_queue()

    await eventually(queue_is_empty)


async def versions_of(mesh: LocalMesh, task: str) -> list[str]:
    """The app versions that claimed a task."""
    entries = await mesh.log(task)
    assert_invariants(entries)
    return [e.data.app_version for one in entries for e in one.commit.events if isinstance(e.data, TaskStarted)]
