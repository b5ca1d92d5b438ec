"""What is purged, when, and what is kept because something needs it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mesh.bus import Conflict
from mesh.clock import SystemClock
from mesh.errors import UnknownTask
from mesh.log.head import View, next_commit
from mesh.sessions import SessionStore
from mesh.subjects import root_of
from mesh.testing import eventually
from schemas import envelope
from schemas.envelope import event
from schemas.instant import unix
from schemas.object import ObjectRef
from schemas.session import TasksRequest
from schemas.step import ArtifactAdded
from schemas.task import ForkedFrom, TaskAccepted, TaskCompleted
from services.session_store import views
from services.session_store.database import Database, DatabaseUnavailable
from services.session_store.keeper import Keeper
from services.session_store.retention import Ages, Retention
from tests.integration.world import World
from tests.session_store.watching import all_rows

KEEP_S = 1000.0
AGES = Ages(keep_s=KEEP_S, object_s=0.0, orphan_s=0.0)
AT = "2026-01-02T03:04:05.000000Z"


class By:
    """A writer of logs that no agent ran."""

    by = "executor/test"

    def stamp(self) -> tuple[str, str]:
        return secrets.token_hex(8), AT


class Hands:
    """A clock that is set."""

    at = 0.0

    async def now(self) -> float:
        return self.at


class Keeping:
    """A keeper over one database, and a retention whose clock the test moves."""

    def __init__(self, world: World, url: str, ages: Ages = AGES) -> None:
        self.world = world
        self.url = url
        self.database = Database(url)
        self.keeper = Keeper(world.bus, world.names, self.database)
        self.clock = Hands()
        self.ages = ages
        self.retention = Retention(world.bus, world.names, self.database, self.keeper, self.ages, self.clock.now)

    def again(self) -> Keeping:
        """Another process on the same database."""
        return Keeping(self.world, self.url, self.ages)

    async def log(self, id: str, *events: object, ended: bool = True, context: str | None = None) -> None:
        """A whole log: accepted, then these events, then the end."""
        accepted = TaskAccepted(agent="a", pool="p", digest="d", sequence=1, at=AT, context_id=context)
        view = View(id)
        for one in (accepted, *events, *((TaskCompleted(output=1),) if ended else ())):
            commit = next_commit(view, By(), (event(one),))
            stored = await self.world.bus.append(self.world.names.task(id), envelope.encode(commit), expected=view.seq)
            assert not isinstance(stored, Conflict)
            view = View(id, stored, commit.n, view.first or stored, commit.head, commit.v)

    async def caught_up(self) -> None:
        last = await self.world.bus.last_sequence(self.world.names.tasks)

        async def there() -> bool:
            view = await self.database.read(views.current)
            return view is not None and view.complete and view.seq >= last

        await eventually(there, forgive=DatabaseUnavailable)

    async def pass_time(self, *, past: str = "", by_s: float = KEEP_S + 1) -> int:
        """Goes round when so much time has passed since the newest commit, or since that of a task."""
        await self.caught_up()
        rows = (await all_rows(self.url))["mesh_tasks"]
        times = [row[-1] for row in rows if not past or row[0] == past]
        self.clock.at = unix(max(times)) + by_s
        return await self.retention.go_round()

    async def left(self) -> set[str]:
        """The tasks whose logs are there, which are those of the view."""
        prefix = f"{self.world.names.prefix}.task."
        counts = await self.world.bus.counts(self.world.names.tasks, f"{prefix}>")
        ids = {subject.rpartition(".")[2] for subject in counts}
        assert {row[0] for row in (await all_rows(self.url))["mesh_tasks"]} == ids
        return ids


@pytest.fixture
async def keeping(world: World, database: str) -> AsyncIterator[Keeping]:
    async with kept(Keeping(world, database)) as keeping:
        yield keeping


@asynccontextmanager
async def kept(keeping: Keeping) -> AsyncIterator[Keeping]:
    running = asyncio.create_task(keeping.keeper.keep())
    try:
        yield keeping
    finally:
        running.cancel()
        await asyncio.wait((running,))
        await keeping.database.aclose()


async def test_a_log_is_purged_keep_s_after_its_end_and_not_before(keeping: Keeping) -> None:
    await keeping.log("t1")
    await keeping.log("open", ended=False)
    assert await keeping.pass_time(by_s=KEEP_S - 1) == 0
    assert await keeping.left() == {"t1", "open"}
    assert await keeping.pass_time() == 1
    assert await keeping.left() == {"open"}


async def test_a_context_keeps_its_logs_until_keep_s_after_its_last_task(keeping: Keeping) -> None:
    await keeping.log("t1", context="talk")
    await keeping.log("t2", context="talk", ended=False)
    assert await keeping.pass_time() == 0
    await keeping.log("t3", context="other")
    assert await keeping.pass_time() == 1
    assert await keeping.left() == {"t1", "t2"}


async def test_a_tree_keeps_its_logs_until_all_of_it_has_ended(keeping: Keeping) -> None:
    child = "root--aaaaaaaaaaaaa"
    assert root_of(child) == "root"
    await keeping.log("root", ended=False)
    await keeping.log(child)
    assert await keeping.pass_time() == 0
    assert await keeping.left() == {"root", child}


async def test_a_fork_keeps_its_origin(keeping: Keeping) -> None:
    await keeping.log("origin")
    await keeping.log("fork", ForkedFrom(task="origin", sequence=2), ended=False)
    assert await keeping.pass_time() == 0
    assert await keeping.left() == {"origin", "fork"}


async def test_an_object_is_removed_with_the_last_log_that_refers_to_it(keeping: Keeping) -> None:
    bus, bucket = keeping.world.bus, keeping.world.names.artifacts
    shared, own = await bus.put_object(bucket, b"shared"), await bus.put_object(bucket, b"own")

    def added(digest: str) -> ArtifactAdded:
        return ArtifactAdded(name="a", digest=digest, size=1)

    await keeping.log("t1", added(shared.digest), added(own.digest))
    await keeping.log("t2", added(shared.digest), ended=False)
    assert await keeping.pass_time() == 1
    assert await bus.find_object(bucket, own.digest) is None
    assert await bus.find_object(bucket, shared.digest) == shared
    await keeping.log("t3")
    keeping.retention._ages = Ages(keep_s=KEEP_S, orphan_s=0.0)
    await keeping.world.bus.purge(keeping.world.names.tasks, keeping.world.names.task("t2"))
    await keeping.log("t2", TaskCompleted(output_ref=ObjectRef(digest=shared.digest, size=6)), ended=False)
    assert await keeping.pass_time() == 2
    assert await bus.find_object(bucket, shared.digest) == shared, "it is younger than the margin"
    keeping.retention._ages = AGES
    await keeping.retention.go_round()
    assert await bus.find_object(bucket, shared.digest) is None


async def test_the_newest_commit_may_be_purged_and_a_view_that_is_built_anew_says_the_same(keeping: Keeping) -> None:
    await keeping.log("t0", ended=False)
    await keeping.log("t1")
    assert await keeping.pass_time() == 1
    before = await all_rows(keeping.url)
    await keeping.keeper.rebuild()
    await keeping.caught_up()
    assert await all_rows(keeping.url) == before


async def test_a_store_purges_by_itself_where_keep_s_says_so(world: World, database: str) -> None:
    world.give(database=database)
    world.set(keep_s=0.5)
    await Keeping(world, database).log("t1")
    await world.start("session-store")

    async def gone() -> bool:
        return await world.bus.newest(world.names.tasks, world.names.task("t1"), leader=True) is None

    await eventually(gone)
    await eventually(lambda: _is_unknown(world))
    page = await SessionStore(world.bus, world.names).tasks(TasksRequest(v=1))
    assert page.tasks == ()


@pytest.mark.parametrize("keep_s", [KEEP_S, 1e12], ids=["some time", "longer than there is a calendar"])
async def test_what_is_due_goes_by_the_clock_of_the_broker(
    world: World, database: str, keep_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SystemClock, "now", lambda self: time.time() + 2 * KEEP_S)
    monkeypatch.setattr("services.session_store.retention.LONGEST_S", 0.1)
    rounds, go_round = asyncio.Queue[int](), Retention.go_round

    async def counted(self: Retention) -> int:
        purged = await go_round(self)
        rounds.put_nowait(purged)
        return purged

    monkeypatch.setattr(Retention, "go_round", counted)
    world.give(database=database)
    world.set(keep_s=keep_s)
    await Keeping(world, database).log("t1")
    await world.start("session-store")
    assert [await rounds.get() for _ in range(3)] == [0, 0, 0]


async def _is_unknown(world: World) -> bool:
    try:
        await world.client.get("t1")
    except UnknownTask:
        return True
    return False
