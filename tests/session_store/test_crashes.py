"""Behaviour 1: whatever is killed, answers are complete, fit the log, and say which sequence they include."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.errors import BusUnavailable
from mesh.sessions import SessionStore
from mesh.testing import Processes, eventually
from schemas.session import DONE, STARTED, TasksRequest
from tests.integration.world import World
from tests.session_store.app import app
from tests.session_store.watching import Watcher, all_rows, whole_log

TASKS = 60


@asynccontextmanager
async def stores(world: World) -> AsyncIterator[Processes]:
    async with Processes(world.url, settings=world.settings) as processes:
        yield processes


async def submit_some(world: World, count: int) -> None:
    handles = [
        await world.client.submit("count", "bad" if n % 7 == 3 else "word", context_id=f"talk {n % 5}")
        for n in range(count)
    ]
    for one in handles:
        await one.result(30)


async def settled(world: World) -> int:
    """The sequence of the newest commit, once a store shows it."""
    last = (await whole_log(world.bus, world.names))[-1].seq
    await SessionStore(world.bus, world.names).tasks(TasksRequest(v=1, sequence=last, wait_s=30))
    return last


async def rebuilt_rows(world: World, new_database: Callable[[], str]) -> object:
    """The rows of a store that begins from nothing."""
    url = new_database()
    world.give(database=url)
    store = await world.start("session-store")
    await store.stop()
    return await all_rows(url)


async def test_a_store_that_is_killed_at_any_moment_goes_on_where_it_was(
    world: World, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.serve(app)
    url, watcher, rng = new_database(), Watcher(world.bus, world.names), random.Random()
    monkeypatch.setenv("MESH_DATABASE", url)
    async with stores(world) as processes, watcher.watching():
        submitting = asyncio.create_task(submit_some(world, TASKS))
        for _ in range(4):
            store = await processes.start("session-store")
            await asyncio.sleep(rng.uniform(0, 0.2))
            await store.kill()
        await submitting
        store = await processes.start("session-store")
        last = await settled(world)
        await watcher.hears(2)
        assert watcher.answers[-1].sequence >= last
        assert await store.drain() == 0
    await watcher.check()
    assert await all_rows(url) == await rebuilt_rows(world, new_database)


async def test_two_stores_with_a_file_each_show_the_same(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.serve(app)
    watcher = Watcher(world.bus, world.names)
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("a", "b")]
    async with stores(world) as processes, watcher.watching():
        both = []
        for url in urls:
            monkeypatch.setenv("MESH_DATABASE", url)
            both.append(await processes.start("session-store"))
        submitting = asyncio.create_task(submit_some(world, TASKS))
        await watcher.hears(3)
        await both[0].kill()
        await watcher.hears(3)
        await submitting
        await settled(world)
        monkeypatch.setenv("MESH_DATABASE", urls[0])
        again = await processes.start("session-store")
        for store in (again, both[1]):
            assert await store.drain() == 0
    await watcher.check()
    assert await all_rows(urls[0]) == await all_rows(urls[1])


async def test_of_two_stores_on_one_database_one_writes_and_the_other_takes_over(
    world: World, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.serve(app)
    url, watcher = new_database(), Watcher(world.bus, world.names)
    monkeypatch.setenv("MESH_DATABASE", url)
    async with stores(world) as processes, watcher.watching():
        writer = await processes.start("session-store")
        other = await processes.start("session-store")
        submitting = asyncio.create_task(submit_some(world, TASKS))
        await watcher.hears(5)
        await writer.kill()
        await submitting
        await settled(world)
        await watcher.hears(2)
        assert await other.drain() == 0
    await watcher.check()
    assert await all_rows(url) == await rebuilt_rows(world, new_database)


async def test_a_view_is_built_anew_while_it_is_asked_and_is_the_same_afterwards(
    world: World, new_database: Callable[[], str]
) -> None:
    await world.serve(app)
    url, watcher = new_database(), Watcher(world.bus, world.names)
    world.give(database=url)
    store = await world.start("session-store")
    await submit_some(world, TASKS // 2)
    before = await settled(world)
    async with watcher.watching():
        submitting = asyncio.create_task(submit_some(world, TASKS // 2))
        for _ in range(3):
            asking = SessionStore(world.bus, world.names)
            said = [answer async for answer in asking.rebuild(30.0)]
            assert [one.state for one in said] == [STARTED, DONE], said
            assert said[-1].sequence >= before
        await submitting
        await settled(world)
    await watcher.check()
    assert all(answer.sequence >= before for answer in watcher.answers), "no answer went back"
    await store.stop()
    assert await all_rows(url) == await rebuilt_rows(world, new_database)


async def test_a_store_that_is_killed_while_it_rebuilds_keeps_its_old_view(
    world: World, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.serve(app)
    url, watcher = new_database(), Watcher(world.bus, world.names)
    monkeypatch.setenv("MESH_DATABASE", url)
    await submit_some(world, 20)
    async with stores(world) as processes, watcher.watching():
        for _ in range(3):
            store = await processes.start("session-store")
            before = await settled(world)
            said = SessionStore(world.bus, world.names).rebuild(30.0)
            assert (await anext(said)).state == STARTED
            await store.kill()
            await said.aclose()
        store = await processes.start("session-store")
        await watcher.hears(2)
        assert watcher.answers[-1].sequence >= before
        assert await store.drain() == 0
    await watcher.check()
    assert await all_rows(url) == await rebuilt_rows(world, new_database)


@pytest.mark.parametrize("left", ["the lock", "the folder", "nothing"])
async def test_a_store_whose_file_is_removed_builds_its_view_again(world: World, tmp_path: Path, left: str) -> None:
    await world.serve(app)
    folder, asking = tmp_path / "sub", SessionStore(world.bus, world.names)
    url = f"sqlite:///{folder / 's.db'}"
    world.give(database=url)
    store = await world.start("session-store")
    await submit_some(world, 5)
    await settled(world)
    for path in folder.iterdir():
        if left != "the lock" or path.suffix != ".lock":
            path.unlink()
    if left == "nothing":
        folder.rmdir()

    async def asked_by_many() -> set[int]:
        """By as many at once as there are connections, so that each is used."""
        last = (await whole_log(world.bus, world.names))[-1].seq
        request = TasksRequest(v=1, sequence=last, wait_s=0.1)
        pages = await asyncio.gather(*(asking.tasks(request) for _ in range(20)))
        return {len(page.tasks) for page in pages}

    await submit_some(world, 5)
    assert await eventually(asked_by_many, forgive=BusUnavailable) == {10}
    assert [await asked_by_many() for _ in range(5)] == [{10}] * 5
    await store.stop()
    assert await all_rows(url) == await rebuilt_rows(world, lambda: f"sqlite:///{tmp_path / 'other.db'}")
