"""Kill -9 of any service and of the broker, at random moments and repeatedly, under load."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.settings import Settings
from mesh.testing import LocalMesh, Processes
from mesh.testing.orders import KillPoint
from tests.crash.load import Load, assert_ends, assert_nothing_lost

SETTINGS = Settings(ack_wait_s=0.6, max_attempts=20, drain_s=1.0, slots=20)
ROLES = ("router", "router", "executor", "executor", "executor")
STEPS = 5
OUTPUT = 20


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[LocalMesh]:
    """A broker of its own, and no service in this process."""
    async with LocalMesh(store=tmp_path / "store", settings=SETTINGS, routers=0) as mesh:
        yield mesh


@pytest.fixture
async def processes(mesh: LocalMesh, app: str, tmp_path: Path) -> AsyncIterator[Processes]:
    async with Processes(mesh.url, app, settings=SETTINGS, trace=tmp_path / "trace") as processes:
        yield processes


class Storm:
    """Services that die at random writes and are replaced, until the load is done."""

    def __init__(self, processes: Processes, rng: random.Random) -> None:
        self._processes = processes
        self._rng = rng
        self.deaths = 0

    async def keep(self, role: str, deaths: int, last_write: int) -> None:
        """One service, killed `deaths` times within its first writes; its last life goes on."""
        for _ in range(deaths):
            point = KillPoint(
                kind=self._rng.choice(("append", "publish") if role == "router" else ("append", "perform")),
                number=self._rng.randint(1, last_write),
                side="before",
            )
            victim = await self._processes.start(role, kill=point, ready=False)
            await victim.wait()
            self.deaths += 1
        await self._processes.start(role, ready=False)


async def test_services_that_die_at_random_writes_lose_and_repeat_nothing(
    mesh: LocalMesh, processes: Processes, rng: random.Random
) -> None:
    load = Load(mesh.client, "steps", STEPS, tasks=200, tails=20)
    storm = Storm(processes, rng)
    lives = [storm.keep(role, deaths=3, last_write=60) for role in ROLES]
    await assert_ends(load, mesh, processes, *lives)
    assert storm.deaths >= len(ROLES)
    await assert_nothing_lost(load, mesh, processes, OUTPUT)


async def test_a_broker_that_is_killed_under_load_loses_and_repeats_nothing(
    mesh: LocalMesh, processes: Processes, rng: random.Random
) -> None:
    load = Load(mesh.client, "steps", STEPS, tasks=150, tails=15)
    for role in ROLES:
        await processes.start(role)

    async def kill_broker() -> None:
        for count in sorted(rng.sample(range(100), 3)):
            await load.ended(count)
            await mesh.server.kill()
            await mesh.server.start()

    await assert_ends(load, mesh, processes, kill_broker())
    await assert_nothing_lost(load, mesh, processes, OUTPUT)


async def test_everything_killed_at_once_and_repeatedly_goes_on_after_a_restart(
    mesh: LocalMesh, processes: Processes, rng: random.Random
) -> None:
    load = Load(mesh.client, "steps", STEPS, tasks=150, tails=15)

    async def kill_all() -> None:
        for count in sorted(rng.sample(range(100), 3)):
            await load.ended(count)
            await asyncio.gather(mesh.server.kill(), *(one.kill() for one in processes.running))
            await mesh.server.start()
            await asyncio.gather(*(processes.start(role, ready=False) for role in ROLES))

    await asyncio.gather(*(processes.start(role) for role in ROLES))
    await assert_ends(load, mesh, processes, kill_all())
    await assert_nothing_lost(load, mesh, processes, OUTPUT)
