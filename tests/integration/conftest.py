"""One server for all of these tests, a mesh of its own for each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.server import EmbeddedServer
from tests.integration.world import World


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """For tests that kill it or fill it."""
    server = EmbeddedServer(tmp_path / "server")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def world(mesh_server: EmbeddedServer) -> AsyncIterator[World]:
    async with World(mesh_server) as world:
        yield world
