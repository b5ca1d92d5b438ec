"""A provider server, and our real provider code that asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mesh.models import Models
from tests.models.asking import Asking
from tests.models.server import ProviderServer
from tests.models.wires import Chat, Responses, Wire


@pytest.fixture(params=[Chat(), Responses()], ids=["chat", "responses"])
def wire(request: pytest.FixtureRequest) -> Wire:
    made: Wire = request.param
    return made


@pytest.fixture
async def server() -> AsyncIterator[ProviderServer]:
    async with ProviderServer() as server:
        yield server


@pytest.fixture
async def asking(server: ProviderServer, wire: Wire) -> AsyncIterator[Asking]:
    models = Models(environ={"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-test"})
    try:
        yield Asking(models, server, wire)
    finally:
        await models.aclose()
