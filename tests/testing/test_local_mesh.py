"""A whole mesh inside one test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mesh import BusUnavailable, Context, Mesh, ResultTimeout
from mesh.server import EmbeddedServer
from mesh.settings import Settings
from mesh.testing import LocalMesh, eventually

app = Mesh("kit", version="1")


@app.agent
async def shout(ctx: Context, text: str) -> str:
    await ctx.emit_text(text)
    return await ctx.step("upper", str.upper, text)


async def test_a_task_runs_in_five_lines(local_mesh: Callable[..., LocalMesh]) -> None:
    async with local_mesh(app) as mesh:
        result = await mesh.run(shout, "otters")
    assert (result.state, result.output) == ("completed", "OTTERS")


async def test_meshes_on_one_broker_do_not_see_one_another(local_mesh: Callable[..., LocalMesh]) -> None:
    async with local_mesh(app) as one, local_mesh(app) as other:
        await one.run(shout, "x", task_id="same")
        result = await other.run(shout, "y", task_id="same")
    assert result.output == "Y"


async def test_what_a_mesh_made_on_a_shared_broker_is_removed(mesh_server: EmbeddedServer) -> None:
    async with LocalMesh(app, server=mesh_server) as mesh:
        names = mesh.names
    async with LocalMesh(server=mesh_server, routers=0) as other:
        assert not await other.bus.has_mesh(names)


async def test_services_come_and_go_while_the_mesh_runs(local_mesh: Callable[..., LocalMesh]) -> None:
    async with local_mesh(app, executors=0) as mesh:
        task = await mesh.client.submit(shout.name, "x", task_id="waits")
        with pytest.raises(ResultTimeout):
            await task.result(0.05)
        executor = await mesh.start("executor")
        assert (await task.result(10)).output == "X"
        await executor.drain()


async def test_an_own_broker_may_be_killed_and_keeps_its_store(tmp_path: Path) -> None:
    async with LocalMesh(app, store=tmp_path / "store", settings=Settings(ack_wait_s=0.6)) as mesh:
        before = await mesh.run(shout, "x", task_id="t1")
        await mesh.server.kill()
        await mesh.server.start()
        after = await eventually(lambda: mesh.client.result("t1", 5), forgive=BusUnavailable)
    assert after == before
