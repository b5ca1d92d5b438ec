"""A store says how it is: where its view is, what it is doing, and when a person has to see to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import Connection, text

from mesh.census import census
from mesh.doctor import Finding, examine
from mesh.errors import BusUnavailable, InvalidInput
from mesh.testing import eventually
from schemas.service import ServiceInfo, ServicePing, ServiceStats
from services.session_store import health, keeper, requests
from services.session_store.database import Database
from services.session_store.health import Seen, judge
from tests.integration.world import World
from tests.session_store.test_poison import append, commit


@pytest.mark.parametrize(
    ("seen", "state", "reason"),
    [
        (Seen(), "ok", ""),
        (Seen(role="standing by"), "ok", ""),
        (Seen(sequence=7, last=9, still_s=99.0, behind_s=2.0), "ok", ""),
        (Seen(sequence=7, last=9, still_s=14.0, behind_s=12.0), "stuck", "stood at 7 for 14 s, and the log is at 9"),
        (Seen(sequence=7, last=9, still_s=14.0, behind_s=12.0, problem="disk full"), "stuck", ": disk full"),
        (Seen(sequence=7, last=9000, still_s=0.5, behind_s=60.0), "busy", "8,993 commits and 60 s behind"),
        (Seen(sequence=7, last=9000, still_s=0.5, behind_s=60.0, complete=False), "busy", "being built: at 7 of 9,000"),
        (Seen(sequence=0, last=9, still_s=14.0, behind_s=14.0, complete=False), "stuck", "stood at 0"),
        (Seen(unusable="no database", unusable_s=3.0), "busy", "no database"),
        (Seen(unusable="no database", unusable_s=13.0), "stuck", "no database"),
        (Seen(refused_s=1.0), "busy", "refused"),
    ],
)
def test_health_is_told_from_what_was_seen(seen: Seen, state: str, reason: str) -> None:
    told = judge(seen)
    assert told.state == state
    assert reason in told.reason


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that loses patience at once."""
    monkeypatch.setattr(health, "STALE_S", 0.3)
    monkeypatch.setattr(health, "LOOK_S", 0.05)


async def pings(world: World) -> list[dict[str, str]]:
    found = await census(world.bus, f"$SRV.PING.{world.names.prefix}-session-store", ServicePing)
    return sorted((one.metadata for one in found), key=lambda one: one["role"])


async def says(world: World, state: str) -> dict[str, str]:
    """Waits until the one store is in this state."""

    async def there() -> dict[str, str]:
        [one] = await pings(world)
        assert one["health"] == state
        return one

    return await eventually(there, 30.0)


async def doctor(world: World) -> list[Finding]:
    found = [one async for one in examine(world.bus, world.settings, apply=False, system=None, here=True)]
    return [one for one in found if one.what == "session-store"]


async def test_a_store_tells_where_its_view_is_and_what_it_was_asked(world: World, database: str) -> None:
    world.give(database=database)
    await world.start("session-store")
    last = await append(world, "t", commit("t"))
    await world.client.tasks(sequence=last)
    await world.client.get("t")
    with pytest.raises(InvalidInput):
        await world.client.tasks(limit=0)

    async def shown() -> dict[str, str]:
        [one] = await pings(world)
        assert one["sequence"] == str(last)
        return one

    one = await eventually(shown)
    assert (one["health"], one["role"], one["view"], one["lag"]) == ("ok", "writing", "built", "0")
    [stats] = await census(world.bus, f"$SRV.STATS.{world.names.prefix}-session-store", ServiceStats)
    counted = {one.name: (one.num_requests, one.num_errors) for one in stats.endpoints}
    assert counted == {
        "get": (1, 0), "tasks": (2, 1), "history": (0, 0), "contexts": (0, 0), "rebuild": (0, 0), "delete": (0, 0),
    }  # fmt: skip
    tasks = stats.endpoints[1]
    assert tasks.subject == world.names.session("tasks")
    assert "limit" in tasks.last_error
    assert tasks.average_processing_time * 2 <= tasks.processing_time + 1
    assert tasks.data.in_flight == 0
    [info] = await census(world.bus, f"$SRV.INFO.{world.names.prefix}-session-store", ServiceInfo)
    assert [one.name for one in info.endpoints] == list(counted)
    assert await doctor(world) == []


async def test_of_two_on_one_database_one_says_that_it_stands_by(world: World, database: str) -> None:
    world.give(database=database)
    await world.start("session-store")
    await world.start("session-store")
    both = await pings(world)
    assert [(one["role"], one["health"]) for one in both] == [("standing by", "ok"), ("writing", "ok")]


@asynccontextmanager
async def writing_held(url: str) -> AsyncIterator[None]:
    """Somebody else writes to the database, and does not come to an end."""
    database = Database(url)
    free, held = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(connection: Connection) -> None:
        if database.shared:
            connection.execute(text("LOCK TABLE mesh_views IN EXCLUSIVE MODE"))
        loop.call_soon_threadsafe(held.set)
        asyncio.run_coroutine_threadsafe(free.wait(), loop).result()

    holding = asyncio.create_task(database.write(hold))
    try:
        await held.wait()
        yield
    finally:
        free.set()
        await holding
        await database.aclose()


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("set_by_s", [0.0, -3600.0])
async def test_a_store_whose_view_does_not_follow_the_log_is_stuck_until_it_does(
    world: World, database: str, set_by_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.give(database=database)
    await world.start("session-store")
    await world.client.tasks()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + set_by_s)
    async with writing_held(database):
        last = await append(world, "t", commit("t"))
        one = await says(world, "stuck")
        assert f"the log is at {last}" in one["reason"]
        assert int(one["lag"]) > 0
        [found] = await doctor(world)
        assert (found.state, found.message.count("stuck")) == ("problem", 1)
        assert "restart" in found.cure
    assert (await says(world, "ok"))["sequence"] == str(last)


@pytest.mark.usefixtures("soon")
async def test_a_store_whose_database_cannot_be_used_is_stuck_and_says_what_to_see_to(
    world: World, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "HEARTBEAT_S", 60.0)
    world.give(database=database)
    await world.start("session-store")
    await drop_a_table(database)
    assert "mesh_views" in (await says(world, "stuck"))["reason"]
    [found] = await doctor(world)
    assert (found.state, found.cure) == ("problem", health.SEE_TO_IT)


async def drop_a_table(url: str) -> None:
    broken = Database(url)
    await broken.write(Connection.execute, text("DROP TABLE mesh_views"))
    await broken.aclose()


async def test_a_store_whose_tables_somebody_dropped_builds_its_view_again(
    world: World, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "HEARTBEAT_S", 0.05)
    world.give(database=database)
    await world.start("session-store")
    last = await append(world, "t", commit("t"))
    await world.client.tasks(sequence=last)
    await drop_a_table(database)
    page = await eventually(lambda: world.client.tasks(sequence=last), forgive=BusUnavailable)
    assert [one.id for one in page.tasks] == ["t"]


async def test_a_store_that_refuses_questions_is_busy(
    world: World, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "MAX_ANSWERING", 0)
    world.give(database=database)
    await world.start("session-store")
    with pytest.raises(BusUnavailable):
        await world.client.tasks()
    assert "refused" in (await says(world, "busy"))["reason"]
    [found] = await doctor(world)
    assert found.state == "note"
