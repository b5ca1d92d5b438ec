"""One broker shared by the tests that leave it alone, one for each that does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mesh.bus import Bus
from mesh.streams import Definitions, definitions
from mesh.subjects import Subjects
from tests.bus.broker import Broker, Connect


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Both loops: uvloop has its own mind about sockets that have closed."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    with suppress(ImportError):
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture(scope="session")
def shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("shared"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    own = Broker(tmp_path)
    own.start()
    yield own
    own.kill()


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    opened: list[Bus] = []

    async def dial(broker: Broker, *, url: str = "", **options: object) -> Bus:
        options.setdefault("name", "test-1")
        bus = await Bus.connect(url or broker.url, **options)  # type: ignore[arg-type]
        opened.append(bus)
        return bus

    yield dial
    for bus in opened:
        await bus.aclose()


@pytest.fixture
def names(request: pytest.FixtureRequest) -> Subjects:
    """A mesh of its own for each test."""
    return Subjects(f"m{abs(hash(request.node.nodeid)) % 10**8}")


@pytest.fixture
def needed(names: Subjects) -> Definitions:
    return definitions(names)
