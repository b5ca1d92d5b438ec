"""What only the owner of a mesh may read or lock, whatever stood there before."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mesh.server import EmbeddedServer
from services.session_store.database import FileLock


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("name", ["nats.conf", "server.json", "server.json.new", "nats.conf.new", "lock"])
async def test_a_private_file_that_others_could_read_is_theirs_no_more(store: Path, name: str) -> None:
    store.mkdir()
    wide = store / name
    wide.touch()
    wide.chmod(0o666)
    with wide.open("rb") as reading:
        async with EmbeddedServer(store) as server:
            for private in ("nats.conf", "server.json", "lock"):
                assert mode_of(store / private) == 0o600, private
            password = server.system_url.split(":")[2].partition("@")[0].encode()
            assert password in (store / "server.json").read_bytes()
            assert password not in reading.read()
    assert not list(store.glob("*.new"))


def test_the_lock_of_a_session_store_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db.lock"
    path.touch()
    path.chmod(0o666)
    lock = FileLock(path)
    assert lock.acquire()
    try:
        assert mode_of(path) == 0o600
    finally:
        lock.release()
