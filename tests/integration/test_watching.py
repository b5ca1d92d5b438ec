"""Tails cost the broker nothing, lose nothing and slow nobody (behaviour 8)."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from mesh import CursorExpired, InvalidInput, Mesh, ResultTimeout, TaskEvent, UnknownTask
from mesh.agents.context import Context
from mesh.log.tail import MAX_HELD
from tests.integration.world import World, told_text

WORDS = [f"word{n} " for n in range(300)]


@pytest.fixture
def go() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def app(go: asyncio.Event) -> Mesh:
    app = Mesh("shop")

    @app.agent
    async def streams(ctx: Context, count: int) -> int:
        await go.wait()
        for n in range(count):
            await ctx.emit_text(WORDS[n % len(WORDS)])
            await asyncio.sleep(0)
            if n % 400 == 399:
                await ctx.step("save", lambda: None)
        return count

    return app


async def consumers(world: World) -> dict[str, Any]:
    counts = {}
    for stream in (world.names.tasks, world.names.deltas, world.names.work):
        answer = await world.bus.request(f"$JS.API.STREAM.INFO.{stream}", b"", timeout_s=5)
        counts[stream] = msgspec.json.decode(answer.data)["state"]["consumer_count"]
    return counts


def whole(count: int) -> str:
    return "".join(WORDS[n % len(WORDS)] for n in range(count))


class Watchers:
    """Many tails at once; `attached` is set once each has told its first event."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.seen: list[list[TaskEvent]] = []
        self.attached = 0
        self.all_attached = asyncio.Event()

    async def watch(self, task: str, total: int) -> list[TaskEvent]:
        seen: list[TaskEvent] = []
        async with aclosing(self._world.client.tail(task)) as events:
            async for event in events:
                if not seen:
                    self.attached += 1
                    if self.attached == total:
                        self.all_attached.set()
                seen.append(event)
        return seen


async def test_a_thousand_tails_cost_the_broker_no_consumer(world: World, app: Mesh, go: asyncio.Event) -> None:
    await world.serve(app)
    task = await world.client.submit("streams", 20)
    await world.reaches(task.id, "running")
    before = await consumers(world)
    watchers = Watchers(world)
    watching = [asyncio.create_task(watchers.watch(task.id, 1000)) for _ in range(1000)]
    await watchers.all_attached.wait()
    assert await consumers(world) == before
    go.set()
    tails = await asyncio.gather(*watching)
    outcome = await world.outcome(task.id)
    for seen in tails:
        assert told_text(seen) == outcome.text == whole(20)
        assert [event.type for event in seen if event.type != "text"] == outcome.types


async def test_a_slow_reader_loses_nothing_and_slows_nobody(world: World, app: Mesh, go: asyncio.Event) -> None:
    await world.serve(app)
    task = await world.client.submit("streams", 6000)
    seen: list[TaskEvent] = []
    async with aclosing(task.tail()) as events:
        seen.append(await anext(events))
        go.set()
        outcome = await world.outcome(task.id)
        deltas = await world.bus.read(world.names.deltas, world.names.delta(task.id), first=1)
        assert len(deltas) > 2 * MAX_HELD
        seen.extend([event async for event in events])
    assert [event.type for event in seen if event.type != "text"] == outcome.types
    assert told_text(seen) == outcome.text == whole(6000)


async def test_from_any_cursor_the_rest_is_the_same(world: World, app: Mesh, go: asyncio.Event) -> None:
    await world.serve(app)
    go.set()
    task = await world.client.submit("streams", 900)
    seen = [event async for event in task.tail()]
    logged = [event.data for event in seen if event.type != "text"]
    step = max(1, len(seen) // 25)
    for index in [*range(0, len(seen), step), len(seen) - 1]:
        rest = [event async for event in world.client.tail(task.id, seen[index].cursor)]
        told = [event.data for event in seen[: index + 1] + rest if event.type != "text"]
        assert told == logged
        assert told_text(seen[: index + 1] + rest) == whole(900)


async def test_a_hundred_streaming_tasks_are_watched_by_a_thousand_clients(
    world: World, app: Mesh, go: asyncio.Event
) -> None:
    await world.serve(app)
    ids = [(await world.client.submit("streams", 30)).id for _ in range(100)]
    watchers = Watchers(world)
    watching = [asyncio.create_task(watchers.watch(id, 1000)) for id in ids for _ in range(10)]
    await watchers.all_attached.wait()
    go.set()
    for seen in await asyncio.gather(*watching):
        assert told_text(seen) == whole(30)
        assert seen[-1].type == "task.completed"


async def test_leaving_a_tail_stops_nothing(world: World, app: Mesh, go: asyncio.Event) -> None:
    await world.serve(app)
    task = await world.client.submit("streams", 10)
    async with aclosing(task.tail()) as events:
        await anext(events)
    with pytest.raises(ResultTimeout):
        await task.result(timeout_s=0.05)
    go.set()
    assert (await world.outcome(task.id)).result.output == 10


async def test_a_task_that_nobody_submitted_is_unknown(world: World) -> None:
    with pytest.raises(UnknownTask):
        await world.client.result("nobody")


async def test_a_cursor_into_a_purged_log_has_expired(world: World, app: Mesh, go: asyncio.Event) -> None:
    await world.serve(app)
    go.set()
    task = await world.client.submit("streams", 5)
    seen = [event async for event in task.tail()]
    await world.bus.purge(world.names.tasks, world.names.task(task.id))
    with pytest.raises(CursorExpired):
        await anext(world.client.tail(task.id, seen[0].cursor))


async def test_a_cursor_that_is_none_is_refused(world: World) -> None:
    with pytest.raises(InvalidInput):
        await anext(world.client.tail("t", "what"))
