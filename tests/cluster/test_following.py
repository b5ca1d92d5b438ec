"""A stream is followed on a replica that lags behind its leader; nothing is taken for read that was not."""

from __future__ import annotations

import asyncio

from mesh.bus import Bus, Follow
from mesh.testing import LocalMesh
from mesh.testing.cluster import Cluster

MISSED = 4000
BODY = b"x" * 2_000
READERS = 12
PATIENT_S = 30.0


async def write(bus: Bus, mesh: LocalMesh, count: int) -> int:
    """Writes so many, many at a time; the newest sequence."""

    async def some(writer: int) -> int:
        return max([await bus.publish(mesh.names.task(f"t{writer}"), BODY) for _ in range(count // 10)])

    return max(await asyncio.gather(*(some(writer) for writer in range(10))))


async def read(follow: Follow, after: int, last: int) -> list[int]:
    """What came until all up to `last` was told; nothing came that had been told before."""
    found: list[int] = []
    told = after
    while told < last:
        came = await asyncio.wait_for(follow.next(), PATIENT_S)
        found += [one.seq for one in came.messages]
        assert all(one.seq > told for one in came.messages), f"told {told}, then came {came.messages[0].seq}"
        told = max(told, came.upto)
    return found


async def test_a_reader_on_a_replica_that_lags_is_told_only_what_it_has_read(cluster: Cluster, mesh: LocalMesh) -> None:
    stream = mesh.names.tasks
    [lagging, _] = await cluster.followers_of(stream)
    others = ",".join(node.url for node in cluster.nodes if node is not lagging)
    bus = await Bus.connect(others, name="reader", timeout_s=PATIENT_S)
    try:
        before = await write(bus, mesh, 10)
        cluster.freeze(lagging)
        try:
            last = await write(bus, mesh, MISSED)
            # Some of these are given to the replica that does not answer now; it opens them when it wakes up.
            opening = [asyncio.create_task(bus.follow(stream, after=before)) for _ in range(READERS)]
            await asyncio.wait(opening, timeout=0.5)
        finally:
            cluster.thaw(lagging)
        for follow in await asyncio.gather(*opening):
            assert await read(follow, before, last) == list(range(before + 1, last + 1))
    finally:
        await bus.aclose()
