"""Services as processes: started, ended, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh import AppError, Mesh
from mesh.errors import ServerError
from mesh.server import EmbeddedServer
from mesh.settings import Settings
from mesh.testing import LocalMesh, Processes, eventually
from mesh.testing.trace import note_effect
from tests.testing.shop import app


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_processes_serve_a_mesh_and_leave_in_order(local_mesh: Callable[..., LocalMesh]) -> None:
    async with local_mesh(routers=0) as mesh, Processes(mesh.url, app, settings=mesh.settings) as processes:
        router, executor = await processes.start("router"), await processes.start("executor")
        assert (await mesh.run("add", [1, 2])).output == 3
        assert (await executor.drain(), await router.drain()) == (0, 0)
        assert processes.running == []


async def test_the_end_of_the_block_ends_a_frozen_process_too(local_mesh: Callable[..., LocalMesh]) -> None:
    async with local_mesh() as mesh, Processes(mesh.url, app, settings=mesh.settings) as processes:
        executor = await processes.start("executor")
        executor.freeze()
    assert await executor.wait() == -signal.SIGKILL


async def test_a_process_that_cannot_serve_says_why(mesh_server: EmbeddedServer) -> None:
    async with Processes(mesh_server.url, "no_such_module:app", settings=Settings(prefix="nowhere")) as processes:
        with pytest.raises(ServerError, match="no_such_module"):
            await processes.start("executor")


def test_an_app_that_stands_in_no_module_cannot_be_served() -> None:
    with pytest.raises(AppError, match="stands in no module"):
        Processes("nats://127.0.0.1:1", Mesh("nowhere"))


ORPHAN = """
import asyncio, os, sys
from mesh.settings import Settings
from mesh.testing import Processes

async def main():
    async with Processes(sys.argv[1], settings=Settings(prefix="orphan")) as processes:
        print((await processes.start("router")).pid, flush=True)
        os._exit(9)

asyncio.run(main())
"""


async def test_a_test_that_is_killed_leaves_no_process(mesh_server: EmbeddedServer) -> None:
    killed = subprocess.run([sys.executable, "-c", ORPHAN, mesh_server.url], stdout=subprocess.PIPE, check=False)
    assert killed.returncode == 9
    await eventually(lambda: gone(int(killed.stdout)))


def test_noting_an_effect_outside_a_crash_test_does_nothing(tmp_path: Path) -> None:
    note_effect("mail")
    assert list(tmp_path.iterdir()) == []
