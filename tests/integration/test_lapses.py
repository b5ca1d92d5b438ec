"""A slow worker, or one whose broker stood still, keeps what it holds: whoever gets it next asks first."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from mesh.server import EmbeddedServer
from mesh.testing import eventually
from tests.integration.holding import Holding, cable_to, holding, url_of

LEASE_S = 0.5
TASKS = 20
ROUNDS = 4


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(tmp_path / "server") as server:
        yield server


async def lapse(stop: Callable[[], object], go_on: Callable[[], object]) -> None:
    """Holds everything up for longer than a lease lasts."""
    stop()
    over_at = time.monotonic() + 2 * LEASE_S
    try:
        await eventually(lambda: time.monotonic() > over_at)
    finally:
        go_on()


async def test_a_broker_that_stands_still_burns_no_attempt(own_server: EmbeddedServer, tmp_path: Path) -> None:
    pid = own_server.pid
    assert pid
    async with holding(own_server, tmp_path, ack_wait_s=LEASE_S) as held:
        await assert_nothing_is_taken_over(
            held, lambda: os.kill(pid, signal.SIGSTOP), lambda: os.kill(pid, signal.SIGCONT)
        )


async def test_a_slow_link_burns_no_attempt(mesh_server: EmbeddedServer, tmp_path: Path) -> None:
    async with (
        cable_to(mesh_server) as cable,
        holding(mesh_server, tmp_path, url=url_of(cable), ack_wait_s=LEASE_S) as held,
    ):
        await assert_nothing_is_taken_over(held, cable.cut, cable.mend)


async def assert_nothing_is_taken_over(held: Holding, stop: Callable[[], object], go_on: Callable[[], object]) -> None:
    executors = [await held.processes.start("executor") for _ in range(2)]
    runners = [await held.processes.start("tool-runner") for _ in range(2)]
    tasks = [await held.mesh.client.submit("holds", str(held.gate)) for _ in range(TASKS)]
    call = await held.mesh.client.submit("calls", {"tool": "charge_card", "path": str(held.gate)})
    await eventually(lambda: held.effects("hold") == TASKS and held.effects("charge") == 1)
    async with AsyncExitStack() as stack:
        heard: list[bytes] = []
        for worker in (*executors, *runners):
            await stack.enter_async_context(aclosing(await held.asked(await held.name_of(worker), heard)))
        rounds = 0
        while rounds < ROUNDS or not heard:  # what the workers said in time is not delivered again
            await lapse(stop, go_on)
            await lapse(lambda: None, lambda: None)
            rounds += 1
    held.open_gate()
    for task in tasks:
        assert (await task.result()).output == "held"
        starts, _ = await held.story(task.id)
        assert len(starts) == 1
    assert (await call.result()).output == "receipt"
    assert (held.effects("hold"), held.effects("charge")) == (TASKS, 1)
    await held.queue_is_empty()


async def test_a_worker_that_stands_still_loses_its_task(mesh_server: EmbeddedServer, tmp_path: Path) -> None:
    async with holding(mesh_server, tmp_path, ack_wait_s=LEASE_S) as held:
        first = await held.processes.start("executor")
        task = await held.mesh.client.submit("pays", str(held.gate))
        await held.lists(first)
        await held.processes.start("executor")
        first.freeze()
        assert (await task.result()).output == "ask the bank"
        held.open_gate()
        first.thaw()
        await held.lists(first, 0)
        starts, _ = await held.story(task.id)
        assert [one.attempt for one in starts] == [1, 1]
        assert held.effects("charge") == 1
        await held.queue_is_empty()
