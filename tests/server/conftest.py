from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.server import EmbeddedServer
from tests.server.processes import processes_of


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store of ünits"


@pytest.fixture
async def server(store: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(store) as running:
        yield running
    assert processes_of(store) == set()
