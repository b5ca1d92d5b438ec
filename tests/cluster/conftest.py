"""One cluster for all tests that put it right again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.settings import Settings
from mesh.testing import LocalMesh, Processes, eventually
from mesh.testing.cluster import Cluster
from tests.crash import app as crash_app

SETTINGS = Settings(ack_wait_s=1.0, max_attempts=20, drain_s=1.0, slots=20, profile="cluster")
APP = f"{crash_app.__file__}:app"
HEAL_S = 40.0


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    asyncio.run(cluster.start())
    yield cluster
    asyncio.run(cluster.stop())


@pytest.fixture
async def cluster(shared_cluster: Cluster) -> AsyncIterator[Cluster]:
    """Three nodes; what a test has killed lives again afterwards."""
    await shared_cluster.start()
    yield shared_cluster
    await shared_cluster.start()


@pytest.fixture
async def mesh(cluster: Cluster) -> AsyncIterator[LocalMesh]:
    """Streams of three replicas, and no service in this process."""
    async with LocalMesh(server=cluster, settings=SETTINGS, routers=0) as mesh:
        yield mesh
        await cluster.start()
        await eventually(lambda: cluster.in_step(mesh.names.tasks), HEAL_S, forgive=Exception)


@pytest.fixture
async def processes(mesh: LocalMesh, tmp_path: Path) -> AsyncIterator[Processes]:
    async with serving(mesh, tmp_path) as processes:
        yield processes


@asynccontextmanager
async def serving(mesh: LocalMesh, folder: Path) -> AsyncIterator[Processes]:
    """Two routers and two executors, as processes."""
    async with Processes(mesh.url, APP, settings=mesh.settings, trace=folder / "trace") as processes:
        await asyncio.gather(*(processes.start(role) for role in ("router", "router", "executor", "executor")))
        yield processes
