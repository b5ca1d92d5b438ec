"""One server for all of these tests, a mesh of its own for each."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mesh.server import EmbeddedServer
from tests.integration.world import World


@pytest.fixture
async def world(mesh_server: EmbeddedServer) -> AsyncIterator[World]:
    async with World(mesh_server) as world:
        yield world
