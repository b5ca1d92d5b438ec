"""A node that is cut off from the others keeps its clients and can do nothing for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh import BusUnavailable
from mesh.bus import Bus, Conflict
from mesh.log.merge import TaskEvent
from mesh.log.tail import Tail
from mesh.testing import LocalMesh, assert_tail, eventually
from mesh.testing.cluster import Cluster
from tests.cluster.conftest import HEAL_S, SETTINGS, serving
from tests.crash.app import app
from tests.crash.load import Load, assert_ends, assert_nothing_lost


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A cluster of its own: cables belong to one event loop."""
    async with Cluster(tmp_path / "nodes", with_cables=True) as cluster:
        yield cluster


@pytest.fixture
async def mesh(cluster: Cluster) -> AsyncIterator[LocalMesh]:
    async with LocalMesh(server=cluster, settings=SETTINGS, routers=0) as mesh:
        yield mesh
        for node in cluster.nodes:
            cluster.reconnect(node)
        await eventually(lambda: cluster.in_step(mesh.names.tasks), HEAL_S, forgive=Exception)


async def test_a_replica_that_is_cut_off_reads_old_states_and_never_passes_for_the_leader(
    cluster: Cluster, mesh: LocalMesh
) -> None:
    stream, subject = mesh.names.tasks, mesh.names.task("t")
    seq = await mesh.bus.append(subject, b"old", expected=0)
    assert isinstance(seq, int)
    [follower, _] = await cluster.followers_of(stream)
    outside = await Bus.connect(follower.url, name="outside", timeout_s=2.0)
    try:
        await eventually(lambda: outside.newest(stream, subject))
        cluster.cut_off(follower)
        newer = await eventually(lambda: mesh.bus.append(subject, b"new", expected=seq), HEAL_S, forgive=BusUnavailable)
        assert isinstance(newer, int)
        stale = await eventually(lambda: outside.newest(stream, subject), HEAL_S, forgive=BusUnavailable)
        assert stale is not None
        assert stale.data == b"old"
        with pytest.raises(BusUnavailable):
            await outside.newest(stream, subject, leader=True)
        with pytest.raises(BusUnavailable):
            await outside.read(stream, subject, first=1, leader=True)
        with pytest.raises(BusUnavailable):
            await outside.append(subject, b"lost", expected=seq)
        cluster.reconnect(follower)
        late = await eventually(lambda: outside.append(subject, b"late", expected=seq), HEAL_S, forgive=BusUnavailable)
        assert late == Conflict(newer)
        kept = await eventually(
            lambda: mesh.bus.read(stream, subject, first=1, leader=True), HEAL_S, forgive=BusUnavailable
        )
        assert [one.data for one in kept] == [b"old", b"new"]
    finally:
        await outside.aclose()


async def test_a_tail_at_a_leader_that_does_not_know_it_is_none_any_more_waits_and_misses_nothing(
    cluster: Cluster, mesh: LocalMesh
) -> None:
    await mesh.start("router")
    await mesh.start("executor", app=app)
    deposed = await cluster.leader_of(mesh.names.tasks)
    outside = await Bus.connect(deposed.url, name="outside", timeout_s=2.0)
    try:
        cluster.cut_off(deposed)
        task = await eventually(
            lambda: mesh.client.submit("everything", 3, task_id="t"), HEAL_S, forgive=BusUnavailable
        )
        await eventually(task.result, HEAL_S, forgive=BusUnavailable)
        seen = [event async for event in task.tail()]
        half = seen[: len(seen) // 2]
        tail = Tail(outside, mesh.names, "t", cursor=half[-1].cursor, wait=True)
        resuming = asyncio.create_task(collect(tail))
        cluster.reconnect(deposed)
        assert_tail([*half, *await resuming], await mesh.log("t"))
    finally:
        await outside.aclose()


async def collect(tail: Tail) -> list[TaskEvent]:
    return [event async for event in tail.events()]


async def test_who_is_connected_to_a_node_that_is_cut_off_goes_to_another(cluster: Cluster, mesh: LocalMesh) -> None:
    [follower, _] = await cluster.followers_of(mesh.names.tasks)
    cluster.cut_off(follower)

    async def append(number: int) -> None:
        bus = await Bus.connect(cluster.url, name=f"client-{number}", timeout_s=2.0)
        subject = mesh.names.task(f"t{number}")
        try:
            await eventually(lambda: bus.append(subject, b"x", expected=0), HEAL_S, forgive=BusUnavailable)
        finally:
            await bus.aclose()

    await asyncio.gather(*(append(number) for number in range(6)))


async def test_a_node_that_is_cut_off_under_load_loses_and_repeats_nothing(
    cluster: Cluster, mesh: LocalMesh, tmp_path: Path
) -> None:
    load = Load(mesh.client, "steps", 15, tasks=120, tails=10)

    async def cut_off() -> None:
        await load.ended(10)
        leader = await cluster.leader_of(mesh.names.tasks)
        cluster.cut_off(leader)
        try:
            await load.ended(60)
        finally:
            cluster.reconnect(leader)

    async with serving(mesh, tmp_path) as processes:
        await assert_ends(load, mesh, processes, cut_off())
        await assert_nothing_lost(load, mesh, processes, 210)
