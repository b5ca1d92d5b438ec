"""A deploy ends no task: services are replaced one after the other, and two versions of an app work side by side.

Deliveries come again by themselves only after half a minute here, so whatever is handed over is handed over in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mesh.server import EmbeddedServer
from mesh.settings import Settings
from mesh.testing import LocalMesh, Processes, assert_invariants, eventually
from schemas.task import TaskStarted
from tests.crash.load import Load, assert_ends, assert_nothing_lost

APPS = Path(__file__).parent / "deploy_app.py"
OLD, NEW = f"{APPS}:old", f"{APPS}:new"
SERVICES = ("router", "executor", "tool-runner")
ORDER = {"total": 10, "price": 6, "receipt": "receipt 10"}


@asynccontextmanager
async def deployed(server: EmbeddedServer, folder: Path) -> AsyncIterator[tuple[LocalMesh, Processes, Processes]]:
    """A mesh whose services are processes, and what serves the old and the new version of its app."""
    settings = Settings(ack_wait_s=30.0, drain_s=0.2)
    async with (
        LocalMesh(server=server, settings=settings, routers=0) as mesh,
        Processes(mesh.url, OLD, settings=mesh.settings, trace=folder / "trace") as old,
        Processes(mesh.url, NEW, settings=mesh.settings, trace=folder / "trace") as new,
    ):
        yield mesh, old, new


async def replace_all(old: Processes, new: Processes) -> None:
    """One process after the other: the new one takes work before the old one leaves."""
    for leaving in list(old.running):
        await new.start(leaving.service)
        assert await leaving.drain() == 0, leaving.said()


async def test_every_service_is_replaced_under_load_and_no_task_fails(
    mesh_server: EmbeddedServer, tmp_path: Path
) -> None:
    async with deployed(mesh_server, tmp_path) as (mesh, old, new):
        for service in SERVICES * 2:
            await old.start(service)
        loads: list[Load] = []
        async with asyncio.TaskGroup() as group:
            replacing = group.create_task(replace_all(old, new))
            while not replacing.done():
                loads.append(Load(mesh.client, "order", 5, tasks=30, tails=3, name=f"load{len(loads)}-"))
                await assert_ends(loads[-1], mesh, new)
        assert not old.running
        for load in loads:
            await assert_nothing_lost(load, mesh, new, ORDER)


async def test_two_versions_side_by_side_hand_each_other_what_only_one_of_them_has(
    mesh_server: EmbeddedServer, tmp_path: Path
) -> None:
    async with deployed(mesh_server, tmp_path) as (mesh, old, new):
        for processes in (old, new):
            for service in SERVICES:
                await processes.start(service)
        await assert_refunds(mesh)
        orders = Load(mesh.client, "order", 5, tasks=60, tails=0)
        await orders.run()
        await assert_nothing_lost(orders, mesh, new, ORDER)
        versions = {version for id in orders.ids for version in await versions_of(mesh, id)}
        assert versions == {"1", "2"}
        await old.start("executor")  # the newest record is that of the old version now
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
