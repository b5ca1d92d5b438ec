"""What the doctor says of a cluster, whole and not."""

from __future__ import annotations

from msgspec.structs import replace

from mesh.bus import Bus
from mesh.doctor import Finding, examine
from mesh.server import read_server_json
from mesh.server.embedded import EmbeddedServer
from mesh.testing import LocalMesh, eventually
from mesh.testing.cluster import Cluster
from tests.cluster.conftest import HEAL_S


async def look(mesh: LocalMesh, by: EmbeddedServer) -> list[Finding]:
    record = read_server_json(by.store)
    assert record is not None
    system = await Bus.connect(record.system_url, name="doctor")
    try:
        return [one async for one in examine(mesh.bus, mesh.settings, apply=False, system=system)]
    finally:
        await system.aclose()


async def test_a_replica_that_is_away_is_named_until_it_is_back(cluster: Cluster, mesh: LocalMesh) -> None:
    leader = await cluster.leader_of(mesh.names.tasks)
    [lost, _] = await cluster.followers_of(mesh.names.tasks)
    name = f"n{cluster.nodes.index(lost)}"

    async def whole() -> None:
        assert [one for one in await look(mesh, leader) if one.what in ("durability", "streams")][1:] == [
            Finding("streams", "ok", "streams, buckets and consumers are as they must be")
        ]

    async def one_is_away() -> None:
        said = [one.message for one in await look(mesh, leader) if one.state == "problem"]
        assert f"{mesh.names.tasks}: its replica on {name} is away" in said
        assert "profile 'cluster' keeps 3 replicas; servers at work: 2" in said

    await eventually(whole, HEAL_S)
    await lost.kill()
    await eventually(one_is_away, HEAL_S, forgive=Exception)
    await lost.start()
    await eventually(whole, HEAL_S, forgive=Exception)


async def test_streams_of_one_replica_become_three_by_the_doctor(cluster: Cluster, mesh: LocalMesh) -> None:
    alone = LocalMesh(server=cluster, settings=replace(mesh.settings, prefix="grows", profile="dev"), routers=0)
    async with alone:
        await alone.bus.append(alone.names.task("t"), b"kept", expected=0)
        wanted = replace(alone.settings, profile="cluster")
        done = [one async for one in examine(alone.bus, wanted, apply=True) if one.what == "apply"]
        assert "num_replicas is 1, the mesh needs 3; changed" in done[0].message
        await eventually(lambda: cluster.in_step(alone.names.tasks), HEAL_S)
        newest = await alone.bus.newest(alone.names.tasks, alone.names.task("t"), leader=True)
        assert newest is not None
        assert newest.data == b"kept"
