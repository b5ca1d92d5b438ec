"""Nodes of a cluster die, freeze and come back under load; no task notices more than a pause."""

from __future__ import annotations

import asyncio

from mesh.testing import LocalMesh, Processes, eventually
from mesh.testing.cluster import Cluster
from tests.cluster.conftest import HEAL_S
from tests.crash.load import Load, assert_ends, assert_nothing_lost

STEPS = 15
OUTPUT = 210


async def test_a_leader_that_is_killed_under_load_loses_and_repeats_nothing(
    cluster: Cluster, mesh: LocalMesh, processes: Processes
) -> None:
    load = Load(mesh.client, "steps", STEPS, tasks=150, tails=15)

    async def kill_leader() -> None:
        await load.ended(10)
        leader = await cluster.leader_of(mesh.names.tasks)
        await leader.kill()
        await load.ended(60)
        await leader.start()

    await assert_ends(load, mesh, processes, kill_leader())
    await assert_nothing_lost(load, mesh, processes, OUTPUT)


async def test_nodes_that_are_restarted_one_after_the_other_lose_and_repeat_nothing(
    cluster: Cluster, mesh: LocalMesh, processes: Processes
) -> None:
    load = Load(mesh.client, "steps", STEPS, tasks=150, tails=15)

    async def roll() -> None:
        for number, node in enumerate(cluster.nodes):
            await load.ended(10 + 30 * number)
            await node.restart()
            await eventually(lambda: cluster.in_step(mesh.names.tasks), HEAL_S, forgive=Exception)

    await assert_ends(load, mesh, processes, roll())
    await assert_nothing_lost(load, mesh, processes, OUTPUT)


async def test_a_leader_that_freezes_and_wakes_up_late_loses_and_repeats_nothing(
    cluster: Cluster, mesh: LocalMesh, processes: Processes
) -> None:
    load = Load(mesh.client, "steps", STEPS, tasks=150, tails=15)

    async def freeze_leader() -> None:
        await load.ended(10)
        leader = await cluster.leader_of(mesh.names.tasks)
        cluster.freeze(leader)
        try:
            await load.ended(60)
        finally:
            cluster.thaw(leader)

    await assert_ends(load, mesh, processes, freeze_leader())
    await assert_nothing_lost(load, mesh, processes, OUTPUT)


async def test_a_follower_that_freezes_and_wakes_up_late_is_no_harm(
    cluster: Cluster, mesh: LocalMesh, processes: Processes
) -> None:
    load = Load(mesh.client, "steps", STEPS, tasks=150, tails=15)

    async def freeze_follower() -> None:
        await load.ended(10)
        [follower, _] = await cluster.followers_of(mesh.names.tasks)
        cluster.freeze(follower)
        try:
            await load.ended(60)
        finally:
            cluster.thaw(follower)

    await assert_ends(load, mesh, processes, freeze_follower())
    await assert_nothing_lost(load, mesh, processes, OUTPUT)


async def test_a_cluster_that_is_killed_as_a_whole_goes_on_after_its_restart(
    cluster: Cluster, mesh: LocalMesh, processes: Processes
) -> None:
    load = Load(mesh.client, "steps", STEPS, tasks=150, tails=15)

    async def kill_all() -> None:
        await load.ended(10)
        await asyncio.gather(*(node.kill() for node in cluster.nodes))
        await cluster.start()

    await assert_ends(load, mesh, processes, kill_all())
    await assert_nothing_lost(load, mesh, processes, OUTPUT)
