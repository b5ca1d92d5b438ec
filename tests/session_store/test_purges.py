"""A purge is told in the stream of the logs, so every view forgets at the same place, whenever it comes by there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, select, update

from mesh.bus import Bus, StoredMessage
from mesh.errors import MeshError
from mesh.testing import eventually
from schemas.envelope import VERSION
from schemas.purge import LogsPurged
from schemas.step import ArtifactAdded
from services.session_store import tables, views
from services.session_store.database import Database
from services.session_store.keeper import Builder, Keeper
from services.session_store.retention import Ages, Retention
from tests.integration.world import World
from tests.session_store.test_retention import AGES, KEEP_S, Keeping, kept
from tests.session_store.watching import all_rows


class Killed(BaseException):
    """Stands for `kill -9`."""


class KilledBefore:
    """Kills whoever is about to write there."""

    def __init__(self, subject: str) -> None:
        self._subject = subject

    def before(self, kind: str, subject: str) -> None:
        if subject == self._subject:
            raise Killed

    def after(self, kind: str, subject: str) -> None:
        pass


@pytest.fixture
def new(world: World, new_database: Callable[[], str]) -> Callable[..., Keeping]:
    """Makes stores that do not run yet, each with a database of its own."""
    return lambda ages=AGES: Keeping(world, new_database(), ages)


async def ids(keeping: Keeping) -> set[str]:
    return {row[0] for row in (await all_rows(keeping.url))["mesh_tasks"]}


async def end_of(keeping: Keeping, *tasks: str) -> dict[str, int]:
    found = {}
    for task in tasks:
        newest = await keeping.world.bus.newest(keeping.world.names.tasks, keeping.world.names.task(task), leader=True)
        assert newest is not None
        found[task] = newest.seq
    return found


async def said(world: World) -> list[StoredMessage]:
    """What the stream says about purges."""
    return await world.bus.read(world.names.tasks, world.names.purged(), first=1, leader=True)


async def test_a_store_that_was_down_forgets_what_was_purged_meanwhile(new: Callable[[], Keeping]) -> None:
    here, away = new(), new()
    async with kept(here), kept(away):
        await here.log("gone")
        await here.log("stays")
        await away.caught_up()
    async with kept(here.again()) as here:
        await here.caught_up()
        await here.retention.purge(await end_of(here, "gone"))
        assert await here.left() == {"stays"}
    async with kept(away.again()) as away:
        await away.caught_up()
        assert await away.left() == {"stays"}
        assert await all_rows(away.url) == await all_rows(here.url)


async def test_a_view_that_is_being_built_forgets_as_the_other_one_does(new: Callable[[], Keeping]) -> None:
    store = new()
    async with kept(store):
        await store.log("gone")
        await store.log("stays")
        await store.caught_up()
        database, names, bus = store.database, store.world.names, store.world.bus
        old = await database.read(views.current)
        assert old is not None
        begun = await database.write(views.begin, names.tasks, old.created, as_current=False)
        builder = Builder(bus, names, database, begun, lambda: None)
        building = asyncio.create_task(builder.run())
        await eventually(lambda: builder.caught_up)
        await store.retention.purge(await end_of(store, "gone"))
        assert await ids(store) == {"stays"}
        assert await eventually(lambda: database.write(views.put_in_place, old, builder.view))
        assert await ids(store) == {"stays"}
        building.cancel()
        await asyncio.wait((building,))


async def test_who_is_killed_between_the_purge_and_its_word_does_both_again(new: Callable[[], Keeping]) -> None:
    store, other = new(), new()
    names = store.world.names
    async with kept(store), kept(other):
        await store.log("gone")
        await store.log("stays")
        await store.caught_up()
        due = await end_of(store, "gone")
        dying = await Bus.connect(store.world.url, name="dying", observer=KilledBefore(names.purged()))
        with pytest.raises(Killed):
            await Retention(dying, names, store.database, store.keeper, AGES).purge(due)
        await dying.aclose()
        assert await ids(store) == {"gone", "stays"}, "nothing forgets by itself"
        await store.retention.purge(due)
        await other.caught_up()
        assert await store.left() == await other.left() == {"stays"}


async def test_a_log_that_was_written_since_under_the_same_id_stays(new: Callable[[], Keeping]) -> None:
    store, late = new(), new()
    async with kept(store):
        await store.log("again")
        await store.caught_up()
        due = await end_of(store, "again")
        await store.retention.purge(due)
        await store.log("again")
        await store.retention.purge(due)
        assert await store.left() == {"again"}
    async with kept(late):
        await late.caught_up()
        assert await all_rows(late.url) == await all_rows(store.url)


async def test_what_is_said_about_purges_is_pruned_and_who_missed_it_begins_anew(
    new: Callable[[Ages], Keeping],
) -> None:
    store, away = new(Ages(said_s=0.0)), new(Ages())
    async with kept(store), kept(away):
        for task in ("a", "b", "stays"):
            await store.log(task)
        await away.caught_up()
        missed = await away.database.read(views.current)
    assert missed is not None
    async with kept(store.again()) as store:
        for task in ("a", "b"):
            await store.retention.purge(await end_of(store, task))
    assert len(await said(store.world)) == 1
    async with kept(away.again()) as away:
        await away.caught_up()
        assert await away.left() == {"stays"}
        found = await away.database.read(views.current)
        assert found is not None
        assert found.number > missed.number
        await store.log("later")
        await away.caught_up()
    async with kept(away.again()) as away:
        await away.caught_up()
        again = await away.database.read(views.current)
        assert again is not None
        assert again.number == found.number, "it has seen what is said now"


async def test_what_claims_that_all_that_is_to_come_is_gone_is_not_believed(new: Callable[[], Keeping]) -> None:
    store, away = new(), new()
    async with kept(store), kept(away):
        await store.log("gone")
        await store.log("stays")
        await store.caught_up()
        await away.caught_up()
        before = await away.database.read(views.current)
    names, forged = store.world.names, LogsPurged(v=VERSION, by="x", floor=2**62)
    await store.world.bus.publish(names.purged(), msgspec.json.encode(forged))
    async with kept(store.again()) as store:
        await store.caught_up()
        await store.retention.purge(await end_of(store, "gone"))
    async with kept(away.again()) as away:
        await away.caught_up()
        assert await away.left() == {"stays"}
        after = await away.database.read(views.current)
        assert before is not None
        assert after is not None
        assert after.number == before.number, "it was not begun anew"


async def test_a_rebuild_during_which_its_store_stops_writing_fails_and_no_more(world: World, database: str) -> None:
    class Ends(Database):
        """Where the view is no longer kept up once another one was begun."""

        async def write(self, work: Any, *args: Any, **kwargs: Any) -> Any:
            done = await super().write(work, *args, **kwargs)
            if kwargs == {"as_current": False}:
                keeping.cancel()
                await asyncio.wait((keeping,))
            return done

    opened = Ends(database)
    keeper = Keeper(world.bus, world.names, opened)
    keeping = asyncio.create_task(keeper.keep())
    await eventually(keeper.ready)
    with pytest.raises(MeshError, match="the old one stays"):
        await keeper.rebuild()
    await opened.aclose()


async def test_a_purge_of_many_logs_is_said_in_pieces(new: Callable[[], Keeping]) -> None:
    store = new()
    async with kept(store):
        await store.log("stays")
        await store.caught_up()
        await store.retention.purge({f"t{n}": 1 for n in range(1_001)})
        assert len(await said(store.world)) == 3
        assert await store.left() == {"stays"}


async def test_a_digest_that_is_handed_on_after_its_log_was_purged_keeps_its_object(
    new: Callable[[Ages], Keeping],
) -> None:
    store = new(Ages(keep_s=KEEP_S, object_s=0.0))
    bus, bucket = store.world.bus, store.world.names.artifacts
    kept_object = await bus.put_object(bucket, b"handed on")
    refers = ArtifactAdded(name="a", digest=kept_object.digest, size=9)
    async with kept(store):
        await store.log("first", refers)
        assert await store.pass_time() == 1
        assert await bus.find_object(bucket, kept_object.digest) == kept_object
        await store.log("second", refers)
        store.retention._ages, store.clock.at = AGES, KEEP_S
        await store.caught_up()
        await store.retention.go_round()
        assert await bus.find_object(bucket, kept_object.digest) == kept_object
        store.retention._ages = Ages(keep_s=KEEP_S, object_s=0.0)
        assert await store.pass_time() == 1
        assert await bus.find_object(bucket, kept_object.digest) == kept_object, "its time begins again"
        store.retention._ages = AGES
        await store.retention.go_round()
        assert await bus.find_object(bucket, kept_object.digest) is None


async def test_an_object_is_an_orphan_since_its_last_log_was_purged(new: Callable[[], Keeping]) -> None:
    store = new()
    refers = ArtifactAdded(name="a", digest=f"sha256-{'0' * 64}", size=9)

    def since(connection: Connection) -> float:
        (found,) = connection.scalars(select(tables.orphans.c.since))
        return float(found or 0)

    async with kept(store):
        found = []
        for task in ("first", "second"):
            await store.log(task, refers)
            await store.caught_up()
            await store.retention.purge(await end_of(store, task))
            found.append(await store.database.read(since))
        assert found[0] < found[1]


async def test_a_view_that_was_told_too_much_begins_anew_when_it_hears_of_it(new: Callable[[], Keeping]) -> None:
    store, whole = new(), new()
    async with kept(store):
        await store.log("t1")
        await store.caught_up()
        view = await store.database.read(views.current)
    assert view is not None
    await store.log("t2")
    last = (await end_of(store, "t2"))["t2"]

    def pretend(connection: Connection) -> None:
        connection.execute(update(tables.views).values(seq=last))

    store = store.again()
    await store.database.write(pretend)
    async with kept(store), kept(whole):
        await store.log("t3")
        await store.caught_up()
        await whole.caught_up()
        assert await store.left() == {"t1", "t2", "t3"}
        assert await all_rows(store.url) == await all_rows(whole.url)


async def test_what_an_operator_purges_behind_the_view_is_known_to_be_gone(new: Callable[[], Keeping]) -> None:
    store = new()
    bus, names = store.world.bus, store.world.names
    await store.log("stays")
    await store.log("gone")
    await bus.purge(names.tasks, names.task("gone"))
    async with kept(store):
        await store.caught_up()
        assert await store.left() == {"stays"}
