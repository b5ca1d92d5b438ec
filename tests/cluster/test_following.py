"""A stream is followed on a replica that lags behind its leader; nothing is taken for read that was not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, update
from structlog.testing import capture_logs

from mesh.bus import Bus, Follow
from mesh.server.embedded import EmbeddedServer
from mesh.subjects import Subjects
from mesh.testing import LocalMesh, eventually
from mesh.testing.cluster import Cluster
from services.session_store import tables, views
from services.session_store.database import Database, DatabaseUnavailable
from services.session_store.keeper import Keeper
from tests.session_store.test_poison import commit

BEFORE = 10
MISSED = 4000
WRITERS = 10
READERS = 12
STORES = 8
PATIENT_S = 30.0


@pytest.fixture
async def sleeper(cluster: Cluster, mesh: LocalMesh) -> EmbeddedServer:
    """A replica that does not lead."""
    [follower, _] = await cluster.followers_of(mesh.names.tasks)
    return follower


@pytest.fixture
async def bus(cluster: Cluster, sleeper: EmbeddedServer) -> AsyncIterator[Bus]:
    """Connected to the other nodes."""
    others = ",".join(node.url for node in cluster.nodes if node is not sleeper)
    bus = await Bus.connect(others, name="reader", timeout_s=PATIENT_S)
    yield bus
    await bus.aclose()


async def write(bus: Bus, names: Subjects, tasks: range) -> int:
    """Writes the first commits of these tasks, many at a time; the newest sequence."""

    async def some(mine: range) -> int:
        return max([await bus.publish(names.task(f"t{n}"), commit(f"t{n}")) for n in mine])

    return max(await asyncio.gather(*(some(tasks[n::WRITERS]) for n in range(WRITERS))))


@asynccontextmanager
async def kept(
    bus: Bus, names: Subjects, database: Database, *, patience_s: float = PATIENT_S
) -> AsyncIterator[Keeper]:
    """Keeps a view for the time of the block."""
    keeper = Keeper(bus, names, database, patience_s=patience_s)
    keeping = asyncio.create_task(keeper.keep())
    try:
        yield keeper
    finally:
        keeping.cancel()
        await asyncio.wait((keeping,))


async def read(follow: Follow, last: int) -> list[int]:
    """What came until all up to `last` was told; nothing came that had been told before."""
    found: list[int] = []
    told = 0
    while told < last:
        came = await asyncio.wait_for(follow.next(), PATIENT_S)
        found += [one.seq for one in came.messages]
        assert all(one.seq > told for one in came.messages), f"told {told}, then came {came.messages[0].seq}"
        told = max(told, came.upto)
    return found


async def test_a_reader_on_a_replica_that_lags_is_told_only_what_it_has_read(
    cluster: Cluster, mesh: LocalMesh, sleeper: EmbeddedServer, bus: Bus
) -> None:
    before = await write(bus, mesh.names, range(BEFORE))
    cluster.freeze(sleeper)
    try:
        last = await write(bus, mesh.names, range(BEFORE, BEFORE + MISSED))
        # Some of these are given to the replica that does not answer now; it opens them when it wakes up.
        opening = [asyncio.create_task(bus.follow(mesh.names.tasks, after=before)) for _ in range(READERS)]
        await asyncio.wait(opening, timeout=0.5)
    finally:
        cluster.thaw(sleeper)
    for follow in await asyncio.gather(*opening):
        assert await read(follow, last) == list(range(before + 1, last + 1))


async def test_every_commit_reaches_every_view_though_a_replica_lags(
    cluster: Cluster, mesh: LocalMesh, sleeper: EmbeddedServer, bus: Bus, tmp_path: Path
) -> None:
    await write(bus, mesh.names, range(BEFORE))
    async with AsyncExitStack() as stack:
        databases = [Database(f"sqlite:///{tmp_path}/{n}.db") for n in range(STORES)]
        for database in databases:
            stack.push_async_callback(database.aclose)
        cluster.freeze(sleeper)
        try:
            last = await write(bus, mesh.names, range(BEFORE, BEFORE + MISSED))
            opening = [kept(bus, mesh.names, database) for database in databases]
            keepers = [await stack.enter_async_context(one) for one in opening]
            # All begin to follow; some then wait for the replica that does not answer.
            await eventually(lambda: all(keeper.holds for keeper in keepers), PATIENT_S)
        finally:
            cluster.thaw(sleeper)
        for keeper, database in zip(keepers, databases, strict=True):
            assert await keeper.shows(last, PATIENT_S)
            view = await database.read(views.current)
            assert view is not None
            assert await database.read(views.count, view.number) == BEFORE + MISSED


async def test_a_view_is_begun_anew_only_when_its_stream_stays_shorter(mesh: LocalMesh, tmp_path: Path) -> None:
    bus, names = mesh.bus, mesh.names
    last = await write(bus, names, range(WRITERS))
    database = Database(f"sqlite:///{tmp_path}/view.db")

    async def shown(keeper: Keeper, upto: int) -> int:
        """The number of the view once it shows so much."""
        await eventually(lambda: keeper.shows(upto, 0.0), PATIENT_S, forgive=DatabaseUnavailable)
        view = await database.read(views.current)
        assert view is not None
        return view.number

    def ahead(connection: Connection) -> None:
        """As a view stands whose newest commits the broker that is asked does not know."""
        upto = last + WRITERS
        connection.execute(update(tables.views).values(seq=upto, applied=upto))

    try:
        async with kept(bus, names, database, patience_s=0.0) as keeper:
            first = await shown(keeper, last)
        await database.write(ahead)
        with capture_logs() as logs:
            async with kept(bus, names, database, patience_s=PATIENT_S) as keeper:
                await eventually(lambda: [one for one in logs if one["event"].startswith("the view waits")])
                last = await write(bus, names, range(WRITERS, 2 * WRITERS))
                await eventually(lambda: keeper.holds)
                assert await shown(keeper, last) == first
        await database.write(ahead)
        async with kept(bus, names, database, patience_s=0.0) as keeper:
            await eventually(lambda: keeper.holds)
            assert await shown(keeper, last) > first
    finally:
        await database.aclose()
