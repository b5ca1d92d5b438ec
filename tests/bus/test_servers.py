"""Several servers: one that answers is enough, and one that cannot help is left."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.bus import Bus, connection
from mesh.errors import BusUnavailable
from mesh.streams import Definitions, Stream
from mesh.testing import eventually
from tests.bus.broker import Broker, Connect


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "other"
    folder.mkdir()
    broker = Broker(folder)
    broker.start()
    yield broker
    broker.kill()


def at(bus: Bus) -> str:
    return bus._commit.session.server


def place(broker: Broker) -> str:
    return broker.url.removeprefix("nats://")


async def test_one_of_several_servers_is_enough(broker: Broker, connect: Connect) -> None:
    for _ in range(3):  # the order is chance
        bus = await connect(broker, url=f"nats://127.0.0.1:1, 127.0.0.1:2,{broker.url}")
        assert bus.connected


async def test_a_server_that_takes_connections_and_says_nothing_is_passed_over(
    broker: Broker, connect: Connect
) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        silent = f"nats://127.0.0.1:{mute.getsockname()[1]}"
        for _ in range(3):
            bus = await connect(broker, url=f"{silent},{broker.url}", timeout_s=4.0)
            assert at(bus) == place(broker)


async def test_the_other_server_takes_over_when_one_dies(broker: Broker, other: Broker, connect: Connect) -> None:
    bus = await connect(broker, url=f"{broker.url},{other.url}")
    first, second = (broker, other) if at(bus) == place(broker) else (other, broker)
    first.kill()
    await eventually(lambda: bus.connected and at(bus) == place(second), forgive=BusUnavailable)


async def test_a_server_whose_streams_never_answer_is_left_for_another(
    broker: Broker, other: Broker, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_SILENT_S", 0.2)
    owner = await connect(other)
    await owner.ensure(Definitions(streams=(Stream(name="ONE", subjects=("one.>",)),), buckets=(), consumers=()))
    bus = await connect(broker, url=f"{broker.url},{other.url}")
    seq = await eventually(lambda: bus.append("one.log", b"x", expected=0), forgive=BusUnavailable)
    assert (seq, at(bus)) == (1, place(other))


async def test_a_server_that_is_the_only_one_is_not_left(
    broker: Broker, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_SILENT_S", 0.0)
    bus = await connect(broker)
    for _ in range(3):
        with pytest.raises(BusUnavailable, match="nobody answers"):
            await bus.append("one.log", b"x", expected=0)
    assert bus.connected
