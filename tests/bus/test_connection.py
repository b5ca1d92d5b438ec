from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from mesh.bus import Bus
from mesh.errors import BusUnavailable, PermissionDenied
from mesh.streams import Definitions, Stream
from mesh.subjects import Subjects
from tests.bus.broker import Broker, Connect, eventually

_USERS = """
accounts {
  A {
    jetstream: enabled
    users: [
      { user: all, password: secret }
      { user: some, password: secret, permissions {
          publish { allow: ["$JS.API.INFO", "ok.>"] }
          subscribe { allow: ["_INBOX_test.>"] }
      } }
    ]
  }
}
"""


async def test_a_refused_connection_is_an_error_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(BusUnavailable, match="no broker at") as caught:
            await Bus.connect(f"nats://127.0.0.1:{closed.getsockname()[1]}", name="test", timeout_s=60)
    assert caught.value.hint


async def test_something_that_is_no_broker_is_an_error() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BusUnavailable):
            await Bus.connect(f"nats://127.0.0.1:{port}", name="test")


async def test_a_wrong_password_is_told_from_a_missing_broker(tmp_path: Path) -> None:
    broker = Broker(tmp_path, _USERS)
    broker.start()
    try:
        with pytest.raises(PermissionDenied) as caught:
            await Bus.connect(f"nats://all:wrong@127.0.0.1:{broker.port}", name="test")
        assert "wrong" not in str(caught.value)
    finally:
        broker.kill()


async def test_a_refused_subject_fails_fast(tmp_path: Path, connect: Connect) -> None:
    broker = Broker(tmp_path, _USERS)
    broker.start()
    try:
        bus = await connect(broker, url=f"nats://some:secret@127.0.0.1:{broker.port}")
        with pytest.raises(PermissionDenied):
            await bus.append("mesh.Task.X", b"", expected=0, timeout_s=60)
        with pytest.raises(PermissionDenied):
            await bus.newest("MESH_TASKS", "mesh.task.x")
        with pytest.raises(PermissionDenied):
            await bus.subscribe("mesh.log.>", lambda _: None)
        with pytest.raises(BusUnavailable, match="nobody answers"):
            await bus.request("ok.then", b"", timeout_s=60)
    finally:
        broker.kill()


async def test_a_broker_that_hangs_is_noticed_and_gets_nothing_late(
    broker: Broker, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.bus.session._PING_S", 0.1)
    bus = await connect(broker)
    await bus.ensure(Definitions(streams=(Stream(name="S", subjects=("s.>",)),), buckets=(), consumers=()))
    broker.freeze()
    # The system's own buffers hold a few MiB, which cannot be taken back; the rest must not follow.
    body = b"x" * 1_000_000
    appends = [asyncio.create_task(bus.append(f"s.{n}", body, expected=0, timeout_s=60)) for n in range(60)]
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert all(isinstance(result, BusUnavailable) for result in results)
    broker.thaw()
    await bus.wait_connected()
    stored = await bus.append("s.marker", b"", expected=0)
    assert isinstance(stored, int)
    assert stored < 30


async def test_sends_while_the_broker_is_away_are_dropped_and_say_so(broker: Broker, connect: Connect) -> None:
    bus = await connect(broker)
    heard: list[bytes] = []
    await bus.subscribe("news", lambda message: heard.append(message.data))
    assert await bus.send("news", b"before")
    await eventually(lambda: heard == [b"before"])
    broker.kill()
    await eventually(lambda: not bus.connected)
    assert not await bus.send("news", b"during")
    assert bus.backlog() == 0
    broker.start()
    await bus.wait_connected()
    assert await bus.send("news", b"after")
    await eventually(lambda: heard == [b"before", b"after"])


async def test_closing_twice_and_closing_without_a_broker_are_quiet(broker: Broker, needed: Definitions) -> None:
    bus = await Bus.connect(broker.url, name="test")
    await bus.ensure(needed)
    await bus.subscribe("a", lambda _: None)
    broker.kill()
    await bus.aclose()
    await bus.aclose()
    with pytest.raises(BusUnavailable):
        await bus.publish("a", b"")


async def test_closing_fails_what_still_waits(broker: Broker) -> None:
    bus = await Bus.connect(broker.url, name="test")
    heard = asyncio.Event()
    await bus.subscribe("mute", lambda _: heard.set())
    waiting = asyncio.create_task(bus.request("mute", b"", timeout_s=60))
    await heard.wait()
    await bus.aclose()
    with pytest.raises(BusUnavailable):
        await waiting


async def test_a_subscriber_hears_of_the_gap_that_an_outage_made(broker: Broker, connect: Connect) -> None:
    bus = await connect(broker)
    heard: list[bytes] = []
    gap = asyncio.Event()
    await bus.subscribe("news", lambda message: heard.append(message.data), on_gap=gap.set)
    broker.kill()
    broker.start()
    await gap.wait()
    await bus.wait_connected()
    await bus.send("news", b"after")
    await eventually(lambda: heard == [b"after"])


async def test_a_subscriber_that_is_swamped_hears_of_the_gap(broker: Broker, connect: Connect) -> None:
    bus = await connect(broker)
    gaps: list[int] = []
    heard: list[int] = []
    link = await bus._control.get()
    await link.subscribe(
        "news", lambda message: heard.append(int(message.data)), on_gap=lambda: gaps.append(1), max_pending=2
    )
    for n in range(1000):
        await bus.send("news", str(n).encode())
    await eventually(lambda: len(gaps) > 0)
    assert len(heard) < 1000


async def test_a_closed_subscription_is_silent(shared_broker: Broker, connect: Connect, names: Subjects) -> None:
    bus = await connect(shared_broker)
    heard: list[str] = []
    first = await bus.subscribe(f"{names.prefix}.x", lambda _: heard.append("first"))
    await bus.subscribe(f"{names.prefix}.x", lambda _: heard.append("second"))
    await first.aclose()
    await first.aclose()
    await bus.send(f"{names.prefix}.x", b"")
    await eventually(lambda: bool(heard))
    assert heard == ["second"]


async def test_what_was_stored_reaches_the_live_view_with_its_sequences(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    seen: list[tuple[int, int, bytes]] = []
    await bus.subscribe(names.log("t"), lambda m: seen.append((m.seq, m.last_seq, m.data)))
    first = await bus.append(names.task("t"), b"one", expected=0)
    await bus.append(names.task("t"), b"refused", expected=0)
    second = await bus.append(names.task("t"), b"two", expected=first)  # type: ignore[arg-type]
    await eventually(lambda: len(seen) == 2)
    assert seen == [(first, 0, b"one"), (second, first, b"two")]
