"""Conversations are listed, and deleted in every store with the logs of their tasks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh.errors import InvalidInput, UnknownTask
from mesh.sessions import SessionStore
from schemas.session import ContextRecord, ContextsRequest, DeleteRequest, TasksRequest
from services.session_store.retention import Retention
from tests.integration.world import World
from tests.session_store.test_asking import app, serve
from tests.session_store.test_retention import Keeping


async def said(world: World, *contexts: str, owner: str = "acme/ann") -> list[str]:
    tasks = [await world.client.submit("other", context, context_id=context, owner=owner) for context in contexts]
    return [(await world.outcome(task.id)).result.id for task in tasks]


async def newest(world: World) -> int:
    return await world.bus.last_sequence(world.names.tasks)


async def test_conversations_are_listed_in_pages_the_newest_first(world: World, database: str) -> None:
    await serve(world, database)
    store = SessionStore(world.bus, world.names)
    await said(world, "c 0")
    await said(world, "c 1")
    await said(world, "c 1", owner="acme/bob")
    await world.run("other", "of no conversation")
    await said(world, "c 2", "c 0")
    found: list[ContextRecord] = []
    token = None
    while True:
        request = ContextsRequest(v=1, limit=2, page_token=token, sequence=await newest(world))
        page = await store.contexts(request)
        found += page.contexts
        token = page.next_page_token
        if token is None:
            break
    assert {(one.context_id, one.owner, one.tasks, one.open) for one in found} == {
        ("c 0", "acme/ann", 2, 0), ("c 1", "acme/ann", 1, 0), ("c 1", "acme/bob", 1, 0), ("c 2", "acme/ann", 1, 0),
    }  # fmt: skip
    order = [one.status_sequence for one in found]
    assert order == sorted(order, reverse=True)
    mine = await store.contexts(ContextsRequest(v=1, owner="acme/bob"))
    assert [one.context_id for one in mine.contexts] == ["c 1"]


async def test_a_deleted_conversation_is_gone_from_the_log_and_from_every_store(
    world: World, new_database: Callable[[], str]
) -> None:
    await serve(world, new_database())
    world.give(database=new_database())
    await world.start("session-store")
    store = SessionStore(world.bus, world.names)
    gone = await said(world, "c", "c")
    (other,) = await said(world, "c", owner="acme/bob")
    request = DeleteRequest(v=1, context_id="c", owner="acme/ann", sequence=await newest(world))
    assert await store.delete(request) == 2
    for task in gone:
        with pytest.raises(UnknownTask):
            await world.log(task)
    assert (await world.client.result(other)).state == "completed"
    for _ in range(10):  # whichever store answers
        page = await store.tasks(TasksRequest(v=1, context_id="c"))
        assert [one.id for one in page.tasks] == [other]
    assert await store.delete(request) == 0


async def test_a_conversation_with_a_task_that_has_not_ended_is_kept(world: World, database: str) -> None:
    await serve(world, database)
    store = SessionStore(world.bus, world.names)
    (ended,) = await said(world, "c")
    for serving in list(world._serving):
        if serving.service.name.startswith("executor"):
            await serving.stop()
    waiting = await world.client.submit("other", "x", context_id="c", owner="acme/ann")
    await world.reaches(waiting.id, "runnable")
    with pytest.raises(InvalidInput, match=waiting.id):
        await store.delete(DeleteRequest(v=1, context_id="c", sequence=await newest(world)))
    assert await world.log(ended)
    await world.executor(app)
    await world.outcome(waiting.id)
    assert await store.delete(DeleteRequest(v=1, context_id="c", sequence=await newest(world))) == 2


async def test_a_conversation_that_goes_on_while_its_store_catches_up_is_kept(
    world: World, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    current, logs = Retention.current, Keeping(world, database)

    async def goes_on(self: Retention) -> bool:
        await logs.log("second", context="c", ended=False)
        return await current(self)

    await serve(world, database)
    await logs.log("first", context="c")
    monkeypatch.setattr(Retention, "current", goes_on)
    with pytest.raises(InvalidInput, match="second"):
        await SessionStore(world.bus, world.names).delete(
            DeleteRequest(v=1, context_id="c", sequence=await newest(world))
        )
    assert await world.log("first")


async def test_a_store_that_is_down_while_a_conversation_is_deleted_forgets_it_too(
    world: World, new_database: Callable[[], str]
) -> None:
    url = new_database()
    await serve(world, new_database())
    world.give(database=url)
    other = await world.start("session-store")
    await said(world, "c", "d")
    store = SessionStore(world.bus, world.names)
    await store.contexts(ContextsRequest(v=1, sequence=await newest(world)))
    await other.stop()
    request = DeleteRequest(v=1, context_id="c", owner="acme/ann", sequence=await newest(world))
    assert await store.delete(request) == 1
    await world.stop()
    world.give(database=url)
    await world.start("session-store")
    page = await store.contexts(ContextsRequest(v=1, sequence=await newest(world)))
    assert [one.context_id for one in page.contexts] == ["d"]
