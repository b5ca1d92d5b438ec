"""A log as a file and back: byte for byte, with its objects, and never run again."""

from __future__ import annotations

import io
import random
import zipfile

import pytest

from mesh import Context, Mesh
from mesh.errors import ArtifactMissing, InvalidInput, TooLarge, UnknownTask
from mesh.log.reading import read_messages
from mesh.sessions import archive
from mesh.testing import eventually
from schemas.object import LARGE_BYTES
from tests.integration.world import World

app = Mesh("shop")
LARGE = "x" * (LARGE_BYTES + 1)
runs: list[str] = []


@app.agent(name="report")
async def report(ctx: Context, topic: str) -> str:
    runs.append(topic[:10])
    await ctx.write_artifact("report.md", b"# otters")
    await ctx.step("think", lambda: 1)
    return topic


async def archived(world: World, id: str) -> io.BytesIO:
    file = io.BytesIO()
    about = await archive.archive(world.bus, world.names, id, file)
    assert about.missing == ()
    return file


async def purge(world: World, id: str) -> None:
    await world.bus.purge(world.names.tasks, world.names.task(id))
    async for one in world.bus.objects(world.names.artifacts):
        await world.bus.remove_object(world.names.artifacts, one.digest)


async def test_a_restored_log_is_the_same_to_the_byte_and_is_not_run_again(world: World, database: str) -> None:
    runs.clear()
    world.give(database=database)
    await world.serve(app)
    await world.start("session-store")
    task = await world.client.submit("report", LARGE)
    first = await world.outcome(task.id)
    before = await read_messages(world.bus, world.names, task.id)
    shown = await world.client.get(task.id, sequence=before[-1].seq)
    file = await archived(world, task.id)
    await purge(world, task.id)
    with pytest.raises(UnknownTask):
        await world.client.result(task.id)
    await archive.restore(world.bus, world.names, file)
    after = await read_messages(world.bus, world.names, task.id)
    assert [one.data for one in after] == [one.data for one in before]
    assert (await world.outcome(task.id)).result == first.result
    assert await world.client.read_artifact(task.id, "report.md") == b"# otters"
    again = await world.client.get(task.id, sequence=after[-1].seq)
    assert again.output_ref == shown.output_ref
    assert (again.task.commits, again.task.first) == (shown.task.commits, after[0].seq)
    await (await world.start("router")).drain()
    await eventually(world.queue_is_empty)
    assert len(runs) == 1


async def test_a_log_that_is_there_stays_and_another_one_is_not_replaced(world: World) -> None:
    await world.serve(app)
    task = await world.client.submit("report", "otters", task_id="t1")
    await task.result()
    file = await archived(world, "t1")
    before = await read_messages(world.bus, world.names, "t1")
    await archive.restore(world.bus, world.names, file)
    assert await read_messages(world.bus, world.names, "t1") == before
    await purge(world, "t1")
    await (await world.client.submit("report", "seals", task_id="t1")).result()
    with pytest.raises(InvalidInput, match="another log"):
        await archive.restore(world.bus, world.names, file)


async def test_a_log_can_be_restored_into_another_mesh(world: World) -> None:
    await world.serve(app)
    for n in range(3):
        await world.run("report", f"before {n}")
    task = await world.client.submit("report", "otters")
    first = await world.outcome(task.id)
    file = await archived(world, task.id)
    async with World(world.server) as other:
        await archive.restore(other.bus, other.names, file)
        outcome = await other.outcome(task.id)
        assert outcome.result == first.result
        assert [one.commit for one in outcome.entries] == [one.commit for one in first.entries]
        assert outcome.entries[0].seq < first.entries[0].seq


async def test_what_is_no_whole_archive_is_refused_and_leaves_nothing(world: World) -> None:
    await world.serve(app)
    task = await world.client.submit("report", "otters")
    await task.result()
    whole = await archived(world, task.id)
    await purge(world, task.id)
    with pytest.raises(InvalidInput, match="no archive"):
        await archive.restore(world.bus, world.names, io.BytesIO(b"otters"))
    with pytest.raises(InvalidInput, match="damaged"):
        await archive.restore(world.bus, world.names, _changed(whole, archive.COMMITS, b"{}\n"))
    digest = archive.OBJECTS + next(iter(_objects(whole)))
    with pytest.raises(InvalidInput, match="damaged"):
        await archive.restore(world.bus, world.names, _changed(whole, digest, b"other"))
    assert await world.entries(task.id) == []
    assert [one async for one in world.bus.objects(world.names.artifacts)] == []


async def test_an_archive_with_any_wrong_byte_is_refused_or_restores_the_log_as_it_was(world: World) -> None:
    await world.serve(app)
    task = await world.client.submit("report", "otters")
    await world.outcome(task.id)
    before = await read_messages(world.bus, world.names, task.id)
    whole, rng = (await archived(world, task.id)).getvalue(), random.Random(1)
    await purge(world, task.id)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= rng.randrange(1, 256)
        try:
            await archive.restore(world.bus, world.names, io.BytesIO(damaged))
        except InvalidInput:
            refused += 1
        else:
            after = await read_messages(world.bus, world.names, task.id)
            assert [one.data for one in after] == [one.data for one in before]
            await purge(world, task.id)
    assert refused > 200


async def test_what_is_there_already_is_young_again_so_that_nobody_removes_it_before_its_log_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.serve(app)
    task = await world.client.submit("report", "otters")
    await task.result()
    file = await archived(world, task.id)
    await world.bus.purge(world.names.tasks, world.names.task(task.id))
    bucket = world.names.artifacts
    metas = f"OBJ_{bucket}", f"$O.{bucket}.M.>"
    before = {one.subject: one.seq async for one in world.bus.last_per_subject(*metas)}
    monkeypatch.setattr("mesh.bus.objects.REFRESH_S", 0.0)
    await archive.restore(world.bus, world.names, file)
    after = {one.subject: one.seq async for one in world.bus.last_per_subject(*metas)}
    assert before
    assert all(after[subject] > seq for subject, seq in before.items())


async def test_a_damaged_archive_does_no_harm_to_an_object_that_is_in_use(world: World) -> None:
    await world.serve(app)
    task = await world.client.submit("report", "otters")
    await task.result()
    whole = await archived(world, task.id)
    await purge(world, task.id)
    used = await world.bus.put_object(world.names.artifacts, b"in use")
    digest = archive.OBJECTS + next(iter(_objects(whole)))
    with pytest.raises(InvalidInput, match="damaged"):
        await archive.restore(world.bus, world.names, _changed(whole, digest, b"in use"))
    assert [one async for one in world.bus.objects(world.names.artifacts)] == [used]


async def test_a_task_that_has_not_ended_is_not_archived(world: World) -> None:
    await world.router()
    await world.executor(app)
    await world.stop()
    task = await world.client.submit("report", "otters", task_id="waits")
    await world.router()
    await world.reaches(task.id, "runnable")
    with pytest.raises(InvalidInput, match="has not ended"):
        await archive.archive(world.bus, world.names, task.id, io.BytesIO())


async def test_a_batch_that_is_too_long_leaves_nothing(world: World) -> None:
    with pytest.raises(TooLarge):
        await world.bus.append_all(world.names.task("t1"), [b"{}"] * 1001)
    assert await world.bus.newest(world.names.tasks, world.names.task("t1"), leader=True) is None


async def test_the_command_keeps_an_archive_on_the_broker_apart_from_artifacts(world: World) -> None:
    kept = await world.bus.put_object(world.names.archives, b"zip")
    with pytest.raises(ArtifactMissing):
        await anext(world.bus.open_object(world.names.artifacts, kept.digest))


def _objects(file: io.BytesIO) -> list[str]:
    with zipfile.ZipFile(file) as packed:
        return [one.removeprefix(archive.OBJECTS) for one in packed.namelist() if one.startswith(archive.OBJECTS)]


def _changed(file: io.BytesIO, name: str, body: bytes) -> io.BytesIO:
    changed = io.BytesIO()
    with zipfile.ZipFile(file) as packed, zipfile.ZipFile(changed, "w") as other:
        for one in packed.namelist():
            other.writestr(one, body if one == name else packed.read(one))
    return changed
