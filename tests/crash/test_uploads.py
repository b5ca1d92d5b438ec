"""Workers that are killed while they upload."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.server import EmbeddedServer
from mesh.settings import Settings
from mesh.testing import LocalMesh, Processes, assert_invariants, crash_points
from mesh.testing.orders import KillPoint, Side

SETTINGS = Settings(ack_wait_s=0.5, drain_s=0.05)
SIZE = 2_000_000
CHUNKS = 16


@pytest.fixture
async def mesh(mesh_server: EmbeddedServer) -> AsyncIterator[LocalMesh]:
    async with LocalMesh(server=mesh_server, settings=SETTINGS) as mesh:
        yield mesh


@pytest.mark.parametrize(
    ("number", "side", "visible"),
    [(1, "before", 0), (9, "after", 0), (CHUNKS + 1, "before", 0), (CHUNKS + 1, "after", 1), (CHUNKS + 9, "before", 1)],
    ids=["first chunk", "middle", "before it is visible", "after it is visible", "the next upload"],
)
async def test_a_worker_killed_in_an_upload_leaves_nothing_visible_and_its_task_goes_on(
    mesh: LocalMesh, app: str, tmp_path: Path, number: int, side: Side, visible: int
) -> None:
    async with Processes(mesh.url, app, settings=mesh.settings, trace=tmp_path / "trace") as processes:
        victim = await processes.start("executor", kill=KillPoint(kind="upload", number=number, side=side))
        task = await mesh.client.submit("uploads", SIZE)
        await victim.wait()
        kept = [one async for one in mesh.bus.objects(mesh.names.artifacts)]
        assert len(kept) == visible
        await processes.start("executor")
        result = await task.result(20)
    assert result.output == SIZE
    assert [artifact.size for artifact in result.artifacts] == [SIZE]
    assert await mesh.client.read_artifact(task.id, "zeros.bin") == bytes(SIZE)
    assert len([one async for one in mesh.bus.objects(mesh.names.artifacts)]) == 2
    assert_invariants(await mesh.log(task.id))


async def test_nobody_can_tell_that_a_worker_of_a_task_with_artifacts_was_killed(
    mesh_server: EmbeddedServer, app: str
) -> None:
    report = await crash_points(app, "uploads", 300_000, server=mesh_server)
    assert report.points
    assert not report.unreached
