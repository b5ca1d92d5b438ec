"""One server per store, also when whoever started it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.errors import ServerError, StoreLocked
from mesh.server import EmbeddedServer, lock, read_server_json
from tests.server.processes import eventually, processes_of

ROOT = Path(__file__).parents[2]
PARENT = """
import asyncio, sys
from pathlib import Path
from mesh.server import EmbeddedServer

async def main():
    async with EmbeddedServer(Path(sys.argv[1])) as server:
        print(server.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def parent_of_a_server(store: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process that serves the store, and is killed in the end."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(store), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    try:
        assert parent.stdout is not None
        assert int(await parent.stdout.readline()) > 0
        yield parent
    finally:
        if parent.returncode is None:
            parent.kill()
        await parent.communicate()


async def test_a_killed_parent_leaves_no_process_and_a_free_store(store: Path) -> None:
    async with parent_of_a_server(store) as parent:
        parent.kill()
        await parent.wait()
        await eventually(lambda: not processes_of(store))
    assert read_server_json(store) is None
    async with EmbeddedServer(store) as server:
        assert read_server_json(store) is not None
        assert server.pid is not None


async def test_a_frozen_server_of_a_killed_parent_is_ended_too(store: Path) -> None:
    async with parent_of_a_server(store) as parent:
        record = read_server_json(store)
        assert record is not None
        os.kill(record.pid, signal.SIGSTOP)
        parent.kill()
        await eventually(lambda: not processes_of(store))


async def test_a_store_stays_locked_until_the_server_of_a_killed_parent_is_gone(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "RETRY_S", 0.05)
    async with parent_of_a_server(store) as parent:
        record = read_server_json(store)
        assert record is not None
        (watchdog,) = processes_of(store) - {record.pid, parent.pid}
        os.kill(watchdog, signal.SIGSTOP)
        try:
            parent.kill()
            await parent.wait()
            with pytest.raises(StoreLocked) as caught:
                await EmbeddedServer(store).start()
        finally:
            os.kill(watchdog, signal.SIGCONT)
        assert caught.value.pid == record.pid
        await eventually(lambda: not processes_of(store))


@pytest.mark.parametrize("processes", [2, 3])
async def test_a_parent_that_is_killed_during_its_start_leaves_no_process(store: Path, processes: int) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(store), stdout=asyncio.subprocess.DEVNULL, cwd=ROOT
    )
    await eventually(lambda: len(processes_of(store)) >= processes)
    parent.kill()
    await parent.wait()
    await eventually(lambda: not processes_of(store))


async def test_a_start_waits_for_the_server_of_a_killed_parent_to_close(store: Path) -> None:
    async with parent_of_a_server(store) as parent:
        parent.kill()
        async with EmbeddedServer(store) as server:
            assert server.pid is not None


async def test_the_record_of_a_living_mesh_is_found_by_others(store: Path) -> None:
    async with parent_of_a_server(store):
        record = read_server_json(store)
        assert record is not None
        assert record.pid in processes_of(store)


async def test_a_second_start_names_the_process_that_holds_the_store(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "RETRY_S", 0.05)
    async with parent_of_a_server(store) as parent:
        second = EmbeddedServer(store)
        with pytest.raises(StoreLocked, match=f"in use by process {parent.pid}") as caught:
            await second.start()
        assert caught.value.pid == parent.pid
        assert read_server_json(store) is not None
        assert parent.returncode is None


async def test_two_servers_of_one_process_do_not_share_a_store(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "RETRY_S", 0.05)
    with pytest.raises(StoreLocked) as caught:
        await EmbeddedServer(server.store).start()
    assert caught.value.pid == os.getpid()
    assert server.pid is not None


async def test_a_killed_server_keeps_its_store_locked_for_its_restart(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "RETRY_S", 0.05)
    await server.kill()
    assert read_server_json(server.store) is None
    with pytest.raises(StoreLocked):
        await EmbeddedServer(server.store).start()


async def test_a_record_that_a_killed_process_left_is_not_believed(store: Path) -> None:
    async with EmbeddedServer(store):
        left = (store / "server.json").read_bytes()
    (store / "server.json").write_bytes(left.replace(b'"pid":', b'"pid":1,"was":'))
    assert read_server_json(store) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"url": 1}'])
async def test_a_record_that_is_none_is_not_believed(server: EmbeddedServer, content: bytes) -> None:
    (server.store / "server.json").write_bytes(content)
    assert read_server_json(server.store) is None


def test_a_folder_without_a_mesh_has_no_record(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert read_server_json(tmp_path) is None
    assert read_server_json(tmp_path / "missing") is None
    assert read_server_json(tmp_path / "file") is None


async def test_without_file_locks_a_start_says_where_it_runs(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_fcntl", None)
    with pytest.raises(ServerError, match="Linux and macOS only"):
        await EmbeddedServer(store).start()
    assert read_server_json(store) is None
