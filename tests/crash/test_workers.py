"""Single workers that are frozen, that die of their task, and that leave in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from mesh.server import EmbeddedServer
from mesh.settings import Settings
from mesh.testing import LocalMesh, Processes, assert_invariants, assert_tail, eventually
from mesh.testing.orders import KillPoint
from mesh.testing.trace import POINT
from schemas import error as codes
from schemas.command import DeadLetter
from schemas.task import TaskReleased, TaskStarted

SETTINGS = Settings(ack_wait_s=0.5, drain_s=0.05)


@pytest.fixture
async def mesh(mesh_server: EmbeddedServer) -> AsyncIterator[LocalMesh]:
    """A router in this process, which hears of no closed connection: what it hands on counts as no attempt.

    Executors are added as processes.
    """
    async with LocalMesh(server=mesh_server, settings=SETTINGS, system_url="") as mesh:
        yield mesh


@pytest.fixture
async def processes(mesh: LocalMesh, app: str, tmp_path: Path) -> AsyncIterator[Processes]:
    async with Processes(mesh.url, app, settings=mesh.settings, trace=tmp_path / "trace") as processes:
        yield processes


async def test_an_executor_frozen_past_its_delivery_writes_nothing_and_serves_the_next_tasks(
    mesh: LocalMesh, processes: Processes
) -> None:
    point = KillPoint(kind="append", number=3, side="before", signal=signal.SIGSTOP)
    frozen = await processes.start("executor", kill=point)
    task = await mesh.client.submit("everything", 3)
    await eventually(lambda: any(line.kind == POINT for line in processes.read_trace()))
    other = await processes.start("executor")

    async def follow() -> list[object]:
        return [event async for event in task.tail()]

    following = asyncio.create_task(follow())
    assert (await task.result(10)).output == {"doubled": 6, "text": "OTTERS"}
    entries = await mesh.log(task.id)
    frozen.thaw()
    tried = len([line for line in processes.read_trace() if line.pid == frozen.pid])
    await other.drain()
    assert (await mesh.run("pay", 3, timeout_s=10)).output == "receipt 3"
    assert len([line for line in processes.read_trace() if line.pid == frozen.pid]) > tried
    assert await mesh.log(task.id) == entries
    assert_invariants(entries)
    assert_tail(await following, entries)  # type: ignore[arg-type]
    assert_tail([event async for event in mesh.client.tail(task.id)], entries)


async def test_a_task_that_kills_its_worker_each_time_fails_and_stands_in_the_dead_letters(
    mesh: LocalMesh, processes: Processes
) -> None:
    task = await mesh.client.submit("deadly", "x")
    result = asyncio.create_task(task.result(30))
    deaths = 0
    while not result.done():
        worker = await processes.start("executor")
        died = asyncio.create_task(worker.wait())
        await asyncio.wait((died, result), return_when=asyncio.FIRST_COMPLETED)
        deaths += died.done()
        died.cancel()
    error = result.result().error
    assert (result.result().state, error.code if error else "") == ("failed", codes.ATTEMPTS_EXHAUSTED)
    assert deaths == SETTINGS.max_attempts
    entries = await mesh.log(task.id)
    assert_invariants(entries)
    assert [e.data.attempt for entry in entries for e in entry.commit.events if isinstance(e.data, TaskStarted)] == [
        1, 2, 3
    ]  # fmt: skip
    letters = await eventually(
        lambda: mesh.bus.read(
            mesh.names.dead_letters, mesh.names.dead(codes.ATTEMPTS_EXHAUSTED, task.id), first=1, leader=True
        )
    )
    assert msgspec.json.decode(letters[0].data, type=DeadLetter).task == task.id


async def test_a_worker_that_is_told_to_leave_hands_its_task_back_and_burns_no_attempt(
    mesh: LocalMesh, processes: Processes
) -> None:
    first = await processes.start("executor")
    task = await mesh.client.submit("patient", 0.6)
    async for event in task.tail():
        if event.type == "text":
            break
    assert await first.drain() == 0
    await processes.start("executor")
    assert (await task.result(10)).output == "waited"
    entries = await mesh.log(task.id)
    assert_invariants(entries)
    data = [event.data for entry in entries for event in entry.commit.events]
    assert any(isinstance(one, TaskReleased) for one in data)
    assert [one.attempt for one in data if isinstance(one, TaskStarted)] == [1, 1]


async def test_a_drain_lets_a_task_end_that_ends_in_time(mesh_server: EmbeddedServer, app: str) -> None:
    settings = Settings(ack_wait_s=0.5, drain_s=10)
    async with (
        LocalMesh(server=mesh_server, settings=settings) as mesh,
        Processes(mesh.url, app, settings=mesh.settings) as processes,
    ):
        worker = await processes.start("executor")
        task = await mesh.client.submit("patient", 0.3)
        async for event in task.tail():
            if event.type == "text":
                break
        assert await worker.drain() == 0
        assert (await task.result(5)).output == "waited"
