"""Pytest fixtures; in a conftest.py: `pytest_plugins = ["mesh.testing.fixtures"]`.

One broker serves the whole session. Each mesh on it has a prefix of its own, so tests do not see one another and none
waits for a broker to start.

    async def test_a_report_is_written(local_mesh):
        async with local_mesh(app) as mesh:
            assert (await mesh.run("report", "otters")).output == "summary of otters"
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from mesh.server import EmbeddedServer
from mesh.testing.local_mesh import LocalMesh


@pytest.fixture(scope="session")
def mesh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A broker for all tests of the session that leave it alive."""
    server = EmbeddedServer(tmp_path_factory.mktemp("mesh") / "store")
    asyncio.run(server.start())
    try:
        yield server
    finally:
        asyncio.run(server.stop())


@pytest.fixture
def local_mesh(mesh_server: EmbeddedServer) -> Callable[..., LocalMesh]:
    """`LocalMesh` on the broker of the session, under a prefix of its own."""
    return partial(LocalMesh, server=mesh_server)
