"""Questions that cannot be answered yet cost next to nothing, are bounded, and are never dropped without a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from sqlalchemy import event

from mesh.census import census
from mesh.errors import BusUnavailable, ViewBehind
from mesh.sessions import SessionStore
from mesh.testing import eventually
from schemas.service import ServicePing
from schemas.session import DeleteRequest, TasksRequest
from services.session_store import requests
from services.session_store.database import Database
from services.session_store.keeper import Keeper
from services.session_store.waiting import MAX_WAITING, Busy, Waiting
from tests.integration.world import World
from tests.session_store.test_poison import append, commit

FAR = 10**9


class Store:
    """What keeps a view up and waits for it, on a database of its own or of several."""

    def __init__(self, world: World, url: str, limit: int) -> None:
        self.database = Database(url)
        self.keeper = Keeper(world.bus, world.names, self.database)
        self.waiting = Waiting(self.database, self.keeper, limit=limit)
        self.looks = 0
        event.listen(self.database._engine, "before_cursor_execute", self._count)

    def _count(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        self.looks += statement.startswith("SELECT") and "mesh_views" in statement

    async def reach(self, sequence: int, wait_s: float) -> None:
        await self.waiting.reach(sequence, asyncio.get_running_loop().time() + wait_s)


@asynccontextmanager
async def kept(world: World, url: str, limit: int = MAX_WAITING) -> AsyncIterator[Store]:
    """A store that has caught up, or stands by."""
    store = Store(world, url, limit)
    running = [asyncio.create_task(run()) for run in (store.keeper.keep, store.waiting.serve)]
    try:
        await eventually(store.keeper.ready)
        yield store
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        await store.database.aclose()


async def test_one_look_serves_all_that_wait(world: World, database: str) -> None:
    async with kept(world, database) as store:
        before = store.looks
        waits = [store.reach(FAR, 0.5) for _ in range(900)]
        told = await asyncio.gather(*waits, return_exceptions=True)
        assert [type(one) for one in told] == [ViewBehind] * 900
        assert store.looks - before < 100
        assert len(store.waiting) == 0


async def test_more_than_may_wait_are_told_so_at_once_and_there_is_room_again_afterwards(
    world: World, database: str
) -> None:
    async with kept(world, database, limit=3) as store:
        waits = [asyncio.create_task(store.reach(1, 30.0)) for _ in range(3)]
        await eventually(lambda: len(store.waiting) == 3)
        with pytest.raises(Busy, match="3 questions wait"):
            await store.reach(1, 30.0)
        await store.reach(0, 0.0)
        assert await append(world, "t", commit("t")) == 1
        await asyncio.gather(*waits)
        with pytest.raises(ViewBehind, match="at sequence 1"):
            await store.reach(FAR, 0.0)


async def test_who_stands_by_hears_of_what_another_one_writes(world: World, database: str) -> None:
    async with kept(world, database) as writer, kept(world, database) as other:
        assert (writer.keeper.holds, other.keeper.holds) == (True, False)
        both = [asyncio.create_task(store.reach(1, 30.0)) for store in (writer, other)]
        await eventually(lambda: len(writer.waiting) + len(other.waiting) == 2)
        await append(world, "t", commit("t"))
        await asyncio.gather(*both)


async def test_who_does_not_wait_any_more_is_forgotten(world: World, database: str) -> None:
    async with kept(world, database) as store:
        gone = asyncio.create_task(store.reach(FAR, 30.0))
        await eventually(lambda: len(store.waiting) == 1)
        gone.cancel()
        await asyncio.wait((gone,))
        assert len(store.waiting) == 0


async def test_questions_that_wait_leave_room_for_those_that_can_be_answered(
    world: World, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "MAX_ANSWERING", 20)
    world.give(database=database)
    await world.start("session-store")
    store = SessionStore(world.bus, world.names)
    far = [asyncio.create_task(store.tasks(TasksRequest(v=1, sequence=FAR, wait_s=3.0))) for _ in range(20)]

    async def all_wait() -> bool:
        [one] = await census(world.bus, f"$SRV.PING.{world.names.prefix}-session-store", ServicePing, within_s=0.2)
        return one.metadata["waiting"] == "20"

    await eventually(all_wait)
    await store.tasks(TasksRequest(v=1))
    assert [type(one) for one in await asyncio.gather(*far, return_exceptions=True)] == [ViewBehind] * 20


async def test_what_is_asked_over_the_bound_is_refused_and_may_be_asked_again(
    world: World, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "MAX_ANSWERING", 0)
    world.give(database=database)
    await world.start("session-store")
    store = SessionStore(world.bus, world.names)
    with pytest.raises(BusUnavailable, match="in hand") as refused:
        await store.tasks(TasksRequest(v=1))
    assert refused.value.retryable
    assert "again" in str(refused.value.hint)
    with pytest.raises(BusUnavailable, match="in hand"):
        await store.delete(DeleteRequest(v=1, context_id="c"))
    answer = await world.bus.request(world.names.session("get"), b"{}", timeout_s=5)
    assert msgspec.json.decode(answer.data)["error"]["code"] == "bus_unavailable"
