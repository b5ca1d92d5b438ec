"""What the store answers while tasks run: by id, by submit, in pages, as a conversation."""

from __future__ import annotations

import pytest

from mesh import Context, Mesh
from mesh.errors import InvalidInput, UnknownTask, ViewBehind
from mesh.sessions import SessionStore
from mesh.testing import eventually
from schemas.session import SaidMessage, TaskRecord, TasksRequest
from tests.integration.world import World

app = Mesh("shop")


@app.agent(name="report")
async def report(ctx: Context, topic: str) -> str:
    if topic == "bad":
        raise ValueError("no such topic")
    await ctx.write_artifact("report.md", b"# otters")
    return f"about {topic}"


@app.agent(name="other")
async def other(ctx: Context, topic: str) -> int:
    return len(topic)


async def serve(world: World, database: str) -> None:
    world.give(database=database)
    await world.serve(app)
    await world.start("session-store")


async def test_a_task_is_found_by_its_id_and_by_its_submit(world: World, database: str) -> None:
    await serve(world, database)
    task = await world.client.submit("report", "otters", metadata={"from": "test"}, owner="acme/ann")
    outcome = await world.outcome(task.id)
    last = outcome.entries[-1].seq
    detail = await world.client.get(task.id, sequence=last)
    assert (detail.input, detail.output, detail.metadata) == ("otters", "about otters", {"from": "test"})
    assert [one.name for one in detail.artifacts] == ["report.md"]
    record = detail.task
    assert (record.state, record.phase, record.agent, record.owner) == ("completed", "ended", "report", "acme/ann")
    assert (record.first, record.sequence, record.commits) == (outcome.entries[0].seq, last, len(outcome.entries))
    assert await world.client.get(record.submit) == detail
    with pytest.raises(UnknownTask):
        await world.client.get(task.id, owner="acme/bob")
    with pytest.raises(UnknownTask):
        await world.client.get("nobody-knows-it")


async def test_a_failed_task_tells_its_error(world: World, database: str) -> None:
    await serve(world, database)
    task = await world.client.submit("report", "bad")
    outcome = await world.outcome(task.id)
    detail = await world.client.get(task.id, sequence=outcome.entries[-1].seq)
    assert detail.error == outcome.result.error
    assert (detail.task.state, detail.task.error_code) == ("failed", "handler_error")


async def test_lists_page_through_everything_once_the_newest_status_first(world: World, database: str) -> None:
    await serve(world, database)
    handles = [await world.client.submit(agent, "x" * n) for n in range(7) for agent in ("report", "other")]
    last = max([(await world.outcome(one.id)).entries[-1].seq for one in handles])
    seen: list[TaskRecord] = []
    token = None
    while True:
        page = await world.client.tasks(agent="report", limit=3, page_token=token, sequence=last)
        assert page.sequence >= last
        seen += page.tasks
        token = page.next_page_token
        if token is None:
            break
    assert {one.id for one in seen} == {one.id for one in handles[::2]}
    assert len(seen) == 7
    order = [one.status_sequence for one in seen]
    assert order == sorted(order, reverse=True)
    whole = await world.client.tasks(sequence=last)
    assert len(whole.tasks) == 14
    assert whole.next_page_token is None
    assert (await world.client.tasks(state="failed", sequence=last)).tasks == ()
    since = whole.tasks[4].status_at
    assert (await world.client.tasks(since=since)).tasks == whole.tasks[:5]


async def test_a_token_of_another_query_and_a_limit_out_of_bounds_are_refused(world: World, database: str) -> None:
    await serve(world, database)
    for n in range(2):
        await world.run("other", str(n))
    page = await eventually(lambda: _first_page(world))
    with pytest.raises(InvalidInput, match="another query"):
        await world.client.tasks(state="failed", page_token=page)
    with pytest.raises(InvalidInput, match="no page token"):
        await world.client.tasks(page_token="§")
    for limit in (0, 101):
        with pytest.raises(InvalidInput, match="limit"):
            await world.client.tasks(limit=limit)


async def _first_page(world: World) -> str:
    page = await world.client.tasks(limit=1)
    assert page.next_page_token is not None
    return page.next_page_token


async def test_a_conversation_is_told_task_by_task_in_pages(world: World, database: str) -> None:
    await serve(world, database)
    last = 0
    for topic in ("otters", "bad", "seals"):
        task = await world.client.submit("report", topic, context_id="talk 1")
        last = (await world.outcome(task.id)).entries[-1].seq
    await world.run("report", "elsewhere", context_id="talk 2")
    talk = await world.client.history("talk 1", sequence=last)
    said = [(one.role, one.content, one.state) for one in talk.messages]
    assert said == [
        ("user", "otters", "completed"), ("assistant", "about otters", "completed"), ("user", "bad", "failed"),
        ("user", "seals", "completed"), ("assistant", "about seals", "completed"),
    ]  # fmt: skip
    pages: list[SaidMessage] = []
    token = None
    while True:
        page = await world.client.history("talk 1", limit=2, page_token=token)
        pages += page.messages
        token = page.next_page_token
        if token is None:
            break
    assert tuple(pages) == talk.messages
    assert (await world.client.history("talk 1", owner="acme/ann")).messages == ()


async def test_who_asks_for_more_than_there_is_is_told_after_its_time(world: World, database: str) -> None:
    await serve(world, database)
    with pytest.raises(ViewBehind):
        await SessionStore(world.bus, world.names).tasks(TasksRequest(v=1, sequence=10**9, wait_s=0.2))
