from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable
from pathlib import Path

import pytest

from mesh.bus import Bus, LiveMessage, without_secrets
from mesh.bus.connection import Msg
from mesh.errors import BusUnavailable, PermissionDenied
from mesh.streams import Definitions, Stream
from mesh.subjects import Subjects
from tests.bus.broker import Broker, Connect, eventually

# A safety net, far above the time-outs under it and below those that nobody gave.
_NEVER_S = 4.0
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


async def test_a_server_that_waits_for_the_other_side_to_speak_is_asked_about() -> None:
    silent = asyncio.Event()

    async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BusUnavailable, match="no answer in time; is it a NATS server"):
            await Bus.connect(f"nats://127.0.0.1:{port}", name="test", timeout_s=0.2)
        silent.set()


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


async def test_whatever_is_asked_of_a_broker_that_hangs_fails_in_its_time(
    broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(broker, timeout_s=0.2)
    await bus.ensure(needed)
    await bus.subscribe("used", lambda _: None)
    broker.freeze()
    asked: list[Awaitable[object]] = [
        bus.append(names.task("t"), b"", expected=0),
        bus.publish(names.submit("a"), b""),
        bus.newest(names.tasks, names.task("t")),
        bus.newest(names.tasks, names.task("t"), leader=True),
        bus.get(names.tasks, 1),
        bus.read(names.tasks, names.task("t"), first=1),
        bus.read(names.tasks, names.task("t"), first=1, expected=10_000),
        bus.put(names.agents, "a", b""),
        bus.fetch(names.agents, "a"),
        bus.remove(names.agents, "a"),
        bus.keys(names.agents),
        bus.subscribe("other", lambda _: None),
        bus.pull(names.work, "router_submit", lambda _: None, slots=1),
        bus.watch(names.agents, lambda key, value: None),
        bus.ensure(needed),
        bus.inspect(needed),
        bus.has_mesh(names),
        bus.purge(names.tasks, names.task("t")),
    ]
    async with asyncio.timeout(_NEVER_S):
        results = await asyncio.gather(*asked, return_exceptions=True)
    assert [result for result in results if not isinstance(result, BusUnavailable)] == []
    broker.thaw()


async def test_many_who_want_the_first_subscription_of_a_broker_that_hangs_wait_together(
    broker: Broker, connect: Connect
) -> None:
    bus = await connect(broker, timeout_s=0.2)
    broker.freeze()
    async with asyncio.timeout(_NEVER_S):
        results = await asyncio.gather(
            *(bus.subscribe(f"s.{n}", lambda _: None) for n in range(50)), return_exceptions=True
        )
    assert all(isinstance(result, BusUnavailable) for result in results)
    broker.thaw()
    await bus.subscribe("s", lambda _: None)


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
    await eventually(lambda: bus.connected)
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
    await eventually(lambda: bus.connected)
    await bus.send("news", b"after")
    await eventually(lambda: heard == [b"after"])


async def test_a_flood_reaches_its_subscriber_whole_and_lets_others_have_their_turn(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    sender, bus = await connect(shared_broker), await connect(shared_broker)
    turns, gaps = 0, 0
    heard: list[int] = []
    at_turn: set[int] = set()
    size, count = 1_000, 20_000
    whole = asyncio.Event()

    def take(message: LiveMessage) -> None:
        heard.append(int(message.data))
        at_turn.add(turns)
        if len(heard) == count:
            whole.set()

    def gap() -> None:
        nonlocal gaps
        gaps += 1

    async def other() -> None:
        nonlocal turns
        while not whole.is_set():
            turns += 1
            await asyncio.sleep(0)

    await bus.subscribe(f"{names.prefix}.flood", take, on_gap=gap)
    turning = asyncio.create_task(other())
    for n in range(count):
        assert await sender.send(f"{names.prefix}.flood", b"%0*d" % (size, n))
    await turning
    assert heard == list(range(count))
    assert gaps == 0
    # What one socket holds is taken at a time, however much follows it: some hundred kilobytes of these 20 MB.
    assert len(at_turn) > 20


@pytest.mark.parametrize("error", [ValueError("broken"), asyncio.CancelledError()])
async def test_a_callback_that_raises_is_logged_and_counted_and_called_again(
    shared_broker: Broker,
    connect: Connect,
    names: Subjects,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    bus = await connect(shared_broker)
    heard: list[bytes] = []

    def take(message: Msg) -> None:
        heard.append(message.data)
        if message.data != b"3":
            raise error

    link = await bus._control.get()
    inlet = await link.subscribe(f"{names.prefix}.x", take)
    for n in range(1, 4):
        await bus.send(f"{names.prefix}.x", b"%d" % n)
    await eventually(lambda: len(heard) == 3)
    assert heard == [b"1", b"2", b"3"]
    assert inlet.failures == 2
    failed = [record for record in caplog.records if record.message == "a callback failed"]
    assert [(vars(record)["subject"], vars(record)["failures"]) for record in failed] == [
        (inlet.subject, n) for n in (1, 2)
    ]
    assert all(record.exc_info and record.exc_info[1] is error for record in failed)
    assert bus.connected


async def test_a_callback_is_called_by_the_task_that_reads_the_socket(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    # It fails where the client library no longer calls what is overridden, which would make every message cost more.
    bus = await connect(shared_broker)
    callers: list[object] = []
    await bus.subscribe(f"{names.prefix}.x", lambda _: callers.append(asyncio.current_task()))
    await bus.send(f"{names.prefix}.x", b"")
    await eventually(lambda: bool(callers))
    link = await bus._control.get()
    assert callers == [link.session.client._reading_task]


async def test_what_was_on_its_way_is_taken_before_a_drain_ends(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    sender, bus = await connect(shared_broker), await connect(shared_broker)
    heard: list[int] = []
    link = await bus._control.get()
    inlet = await link.subscribe(f"{names.prefix}.x", lambda message: heard.append(int(message.data)))
    for n in range(500):
        await sender.send(f"{names.prefix}.x", b"%d" % n)
    await (await sender._bulk.get()).flush()
    await link.drain(inlet)
    assert heard == list(range(500))
    await sender.send(f"{names.prefix}.x", b"500")
    await (await sender._bulk.get()).flush()
    await link.flush()
    assert len(heard) == 500


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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://h:4222", "nats://h:4222"),
        ("nats://u:p@h:4222,tls://token@i:4222", "nats://h:4222,tls://i:4222"),
        ("u:p@h:4222", "h:4222"),
        ("nats://u:p/@q@h", "nats://h"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


async def test_a_cancel_is_heard_at_every_moment_of_a_dial(shared_broker: Broker) -> None:
    turns, dialled = 0, False
    while not dialled:
        dialling = asyncio.create_task(Bus.connect(shared_broker.url, name="dials"))
        for _ in range(turns):
            await asyncio.sleep(0)
        dialled = not dialling.cancel()
        await asyncio.wait((dialling,))
        if not dialled:
            assert dialling.cancelled(), f"a cancel after {turns} turns of the loop was lost"
        turns += 1
    await dialling.result().aclose()
