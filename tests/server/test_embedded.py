"""The life of an embedded server, on the real one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from mesh.errors import ServerError
from mesh.server import EmbeddedServer, read_server_json
from tests.server.processes import eventually, processes_of
from tests.server.questions import ask, count, create_stream, publish


async def test_a_started_server_takes_a_publish_at_once(server: EmbeddedServer) -> None:
    await create_stream(server.url)
    assert await publish(server.url, "first") == 1


async def test_kill_and_start_keep_data_and_port(server: EmbeddedServer) -> None:
    await create_stream(server.url)
    await publish(server.url, "before")
    url, pid = server.url, server.pid
    await server.kill()
    assert server.pid is None
    await server.start()
    assert server.url == url
    assert server.pid != pid
    assert await count(url) == 1


async def test_restart_keeps_data_and_port(server: EmbeddedServer) -> None:
    await create_stream(server.url)
    await publish(server.url, "before")
    url = server.url
    await server.restart()
    await server.restart()
    assert server.url == url
    assert await count(url) == 1


async def test_a_new_server_on_an_old_store_has_its_data(store: Path) -> None:
    async with EmbeddedServer(store) as first:
        await create_stream(first.url)
        await publish(first.url, "before")
    async with EmbeddedServer(store) as second:
        assert await count(second.url) == 1


async def test_stop_leaves_no_process_and_no_record(store: Path) -> None:
    server = EmbeddedServer(store)
    await server.start()
    assert len(processes_of(store)) == 2  # the server and its watchdog
    await server.stop()
    assert processes_of(store) == set()
    assert not (store / "server.json").exists()
    assert server.pid is None


async def test_start_and_stop_may_be_repeated(store: Path) -> None:
    server = EmbeddedServer(store)
    await server.stop()
    await server.start()
    pid = server.pid
    await server.start()
    assert server.pid == pid
    await server.stop()
    await server.stop()
    await server.start()
    await server.stop()


async def test_stop_ends_a_server_that_does_not_listen_to_sigterm(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.server.embedded.STOP_S", 0.05)
    server = EmbeddedServer(store)
    await server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    await server.stop()
    assert processes_of(store) == set()


async def test_every_waiter_learns_of_a_death(server: EmbeddedServer) -> None:
    async with asyncio.TaskGroup() as group:
        waiters = [group.create_task(server.wait_died()) for _ in range(3)]
        group.create_task(_kill(server))
    assert [waiter.result() for waiter in waiters] == [-signal.SIGKILL] * 3
    assert server.pid is None
    await server.start()
    assert server.pid is not None


async def test_a_cancelled_waiter_disturbs_nobody(server: EmbeddedServer) -> None:
    waiter = asyncio.create_task(server.wait_died())
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await _kill(server)
    assert await server.wait_died() == -signal.SIGKILL


async def test_a_server_that_was_never_started_has_no_url_and_no_death(store: Path) -> None:
    server = EmbeddedServer(store)
    with pytest.raises(ServerError, match="before its first start"):
        _ = server.url
    with pytest.raises(ServerError, match="not been started"):
        await server.wait_died()


async def test_a_cancelled_start_leaves_nothing_behind(store: Path) -> None:
    server = EmbeddedServer(store)
    start = asyncio.create_task(server.start())
    await eventually(lambda: bool(processes_of(store)))
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert processes_of(store) == set()
    async with EmbeddedServer(store):
        pass


async def test_server_and_watchdog_are_out_of_reach_of_a_ctrl_c(server: EmbeddedServer) -> None:
    ours = os.getsid(0)
    assert ours not in {os.getsid(pid) for pid in processes_of(server.store)}


async def test_the_record_says_where_the_server_is_and_lets_the_system_user_in(server: EmbeddedServer) -> None:
    record = read_server_json(server.store)
    assert record is not None
    assert (record.url, record.pid) == (server.url, server.pid)
    answer = await ask(
        server.url, "$SYS.REQ.SERVER.PING.VARZ", user=record.system_user, **{"pass": record.system_password}
    )
    assert answer["data"]["system_account"] == "SYS"


async def test_a_stranger_is_no_system_user(server: EmbeddedServer) -> None:
    with pytest.raises(ServerError, match="Authorization Violation"):
        await ask(server.url, "$SYS.REQ.SERVER.PING.VARZ", user="sys", **{"pass": "guess"})


@pytest.mark.parametrize(("durability", "always"), [("dev", False), ("single", True), ("cluster", True)])
async def test_durability_decides_on_flushing_every_write(store: Path, durability: str, always: bool) -> None:
    async with EmbeddedServer(store, durability=durability) as server:
        record = read_server_json(store)
        assert record is not None
        answer = await ask(
            server.url, "$SYS.REQ.SERVER.PING.VARZ", user=record.system_user, **{"pass": record.system_password}
        )
    assert answer["data"]["jetstream"]["config"].get("sync_always", False) is always


async def test_only_the_owner_may_read_what_holds_the_password(server: EmbeddedServer) -> None:
    modes = {name: (server.store / name).stat().st_mode & 0o077 for name in ("server.json", "nats.conf")}
    assert modes == {"server.json": 0, "nats.conf": 0}


async def test_a_store_is_never_committed(server: EmbeddedServer) -> None:
    assert (server.store / ".gitignore").read_text() == "*\n"


async def test_the_log_of_the_run_before_is_kept(store: Path) -> None:
    for name in ("first-run", "second-run"):
        async with EmbeddedServer(store, server_name=name) as server:
            assert name in server.log_path.read_text()
    assert "first-run" in (store / "nats.log.old").read_text()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_server_belongs_to_no_event_loop(store: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    server = EmbeddedServer(store)
    with asyncio.Runner(loop_factory=new_loop) as first:
        first.run(server.start())
    with asyncio.Runner(loop_factory=new_loop) as second:
        second.run(server.kill())
        second.run(server.start())
        second.run(_kill(server))
        assert second.run(server.wait_died()) == -signal.SIGKILL
        second.run(server.restart())
        second.run(server.stop())
    assert processes_of(store) == set()


async def _kill(server: EmbeddedServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
