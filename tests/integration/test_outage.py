"""Without its broker, or with a full one, the mesh waits, says so, and loses nothing (behaviour 7)."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from mesh import BusUnavailable, Client, Context, Mesh, StorageFull, TooLarge
from mesh.errors import MeshError
from mesh.log.driver import Driver
from mesh.log.ops import Message, Publish
from mesh.server import EmbeddedServer
from mesh.testing import eventually
from mesh.testing.local_mesh import Serving
from mesh.worker.presence import Presence
from schemas.agent import WorkerRecord
from schemas.command import Fired
from schemas.object import MAX_VALUE_BYTES
from tests.integration.world import World, told_text

FILLER = b"x" * 500_000
# A safety net, far above the time-out under it and below those that nobody gave.
NEVER_S = 4.0


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(tmp_path / "server") as server:
        yield server


@pytest.fixture
async def lonely(own_server: EmbeddedServer) -> AsyncIterator[World]:
    async with World(own_server, ack_wait_s=1.0) as world:
        yield world


class Gates:
    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.steps = 0

    def app(self) -> Mesh:
        app = Mesh("shop")

        @app.agent
        async def waits(ctx: Context) -> str:
            await ctx.emit_text("before. ")
            await ctx.step("first", self.count)
            self.begun.set()
            await self.go.wait()
            await ctx.emit_text("after. ")
            await ctx.step("second", self.count)
            return "done"

        @app.agent
        async def echo(ctx: Context, value: str) -> str:
            return value

        return app

    def count(self) -> int:
        self.steps += 1
        return self.steps


async def test_services_wait_for_a_broker_that_is_away_and_go_on(lonely: World) -> None:
    gates = Gates()
    await lonely.serve(gates.app())
    task = await lonely.client.submit("waits", None)
    attached = asyncio.Event()
    tail = asyncio.create_task(collect(lonely, task.id, attached))
    await gates.begun.wait()
    await attached.wait()
    await lonely.server.kill()
    gates.go.set()
    with pytest.raises(BusUnavailable):
        await lonely.client.submit("echo", "lost", task_id="lost")
    with pytest.raises(BusUnavailable):
        await lonely.client.cancel(task.id)
    await lonely.server.start()
    outcome = await eventually(lambda: lonely.outcome(task.id), forgive=BusUnavailable)
    assert (outcome.result.output, outcome.text) == ("done", "before. after. ")
    assert outcome.types.count("step.completed") == 2
    assert await tail == outcome.text
    again = await eventually(lambda: lonely.client.submit("echo", "new"), forgive=BusUnavailable)
    assert (await lonely.outcome(again.id)).result.output == "new"
    await eventually(lonely.queue_is_empty)
    assert await lonely.entries("lost") == []


async def collect(world: World, task: str, attached: asyncio.Event) -> str:
    told = []
    async for event in world.client.task(task).tail():
        told.append(event)
        attached.set()
    return told_text(told)


async def test_a_submit_into_a_broker_that_hangs_fails_in_its_time_and_is_not_sent_again(lonely: World) -> None:
    async with Client.connect(lonely.url, prefix=lonely.settings.prefix, timeout_s=0.3) as client:
        assert lonely.server.pid is not None
        os.kill(lonely.server.pid, signal.SIGSTOP)
        os.waitpid(lonely.server.pid, os.WUNTRACED)  # a signal takes its time
        try:
            with pytest.raises(BusUnavailable):
                await client.submit("echo", "perhaps", task_id="perhaps")
        finally:
            os.kill(lonely.server.pid, signal.SIGCONT)
        await eventually(lambda: lonely.bus.connected)
        stored = await eventually(lambda: lonely.queued("submit"), forgive=BusUnavailable)
        assert len(stored) == 1


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
async def test_each_call_of_a_client_gives_up_in_its_time_on_a_broker_that_hangs(lonely: World, used: bool) -> None:
    await lonely.serve(Gates().app())
    ended = await lonely.client.submit("echo", "x")
    await ended.result()
    async with Client.connect(lonely.url, prefix=lonely.settings.prefix, timeout_s=0.2) as client:
        if used:
            await client.result(ended.id)
        assert lonely.server.pid is not None
        os.kill(lonely.server.pid, signal.SIGSTOP)
        os.waitpid(lonely.server.pid, os.WUNTRACED)  # a signal takes its time
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: client.submit("echo", "perhaps"),
            lambda: client.cancel(ended.id),
            lambda: client.result(ended.id),
            lambda: anext(client.tail(ended.id)),
            lambda: client.task(ended.id).result(),
            lambda: client.task(ended.id).cancel(),
            lambda: anext(client.task(ended.id).tail()),
            lambda: Client.connect(lonely.url, prefix=lonely.settings.prefix, timeout_s=0.2)._open(),
        ]
        try:
            for call in calls:
                await _gives_up(call)
        finally:
            os.kill(lonely.server.pid, signal.SIGCONT)


async def _gives_up(call: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(NEVER_S):
        with pytest.raises(BusUnavailable):
            await call()


async def test_who_waits_for_a_connection_lets_its_client_say_that_it_is_lost(lonely: World) -> None:
    # A client in the middle of its loss is not connected and has not told; a wait without a pause stopped the loop.
    client = lonely.bus._commit.session.client
    client._status = type(client).RECONNECTING
    assert not lonely.bus.connected
    await lonely.bus.wait_connected()
    assert await lonely.bus.has_mesh(lonely.names)


async def fill(world: World) -> list[str]:
    """Publishes until the store takes no more, first large then small."""
    subjects: list[str] = []
    for size in (500_000, 20_000, 1_000, 10):
        while True:
            subject = f"filler.{len(subjects)}"
            try:
                await world.bus.publish(subject, FILLER[:size])
            except StorageFull:
                break
            subjects.append(subject)
    return subjects


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[World]:
    """A broker whose store holds 8 MiB, with a stream that a test can fill and empty."""
    limit = "jetstream: { max_file_store: 8MB, max_memory_store: 256MB, store_dir: %s }" % (tmp_path / "full" / "js")
    async with EmbeddedServer(tmp_path / "full", config_extra=limit) as server, World(server, ack_wait_s=1.0) as world:
        answer = await world.bus.request(
            "$JS.API.STREAM.CREATE.FILLER",
            b'{"name": "FILLER", "subjects": ["filler.>"], "storage": "file", "max_bytes": -1, "discard": "new"}',
            timeout_s=5,
        )
        assert b'"error"' not in answer.data, answer.data
        yield world


async def test_a_full_store_is_an_error_to_the_caller_and_a_pause_for_what_is_under_way(small: World) -> None:
    gates = Gates()
    await small.router()
    executor = await small.executor(gates.app())
    running = await small.client.submit("waits", None)
    await gates.begun.wait()
    queued = [await small.client.submit("echo", f"{n}") for n in range(5)]
    await fill(small)
    with pytest.raises(StorageFull, match="the broker's store is full"):
        await small.client.submit("echo", "no room " * 1000)
    gates.go.set()
    await eventually(lambda: paused(executor))
    with pytest.raises(StorageFull):
        await small.client.submit("echo", "no room " * 1000)
    await small.bus.purge("FILLER", "filler.>")
    assert (await small.outcome(running.id)).result.output == "done"
    for n, task in enumerate(queued):
        assert (await small.outcome(task.id)).result.output == f"{n}"
    after = await small.client.submit("echo", "room again")
    assert (await small.outcome(after.id)).result.output == "room again"
    assert gates.steps == 2
    await eventually(lambda: not paused(executor))
    await eventually(small.queue_is_empty)


def paused(executor: Serving) -> bool:
    return bool(executor.service._crew.workers[0]._puller._paused)  # type: ignore[attr-defined]


async def test_a_follow_up_that_waited_for_space_lets_the_router_go_on(small: World) -> None:
    full: list[bool] = []
    driver = Driver(small.bus, small.names, on_storage=full.append)
    await fill(small)
    message = Message(subject=small.names.fired("t"), body=Fired(v=1, task="t", kind="deadline"))
    publishing = asyncio.create_task(driver.answer(Publish((message,))))
    await eventually(lambda: full == [True])
    await small.bus.purge("FILLER", "filler.>")
    await publishing
    assert full == [True, False]


async def test_a_worker_that_cannot_write_its_presence_lives_on(small: World) -> None:
    presence = Presence(small.bus, small.names.workers, lambda: WorkerRecord(v=1, worker="w", service="executor"))
    await fill(small)
    beating = asyncio.create_task(presence.beat())
    await presence.leave()
    await small.bus.purge("FILLER", "filler.>")

    async def written() -> bool:
        return await small.bus.fetch(small.names.workers, "w") is not None

    await eventually(written)
    assert not beating.done()
    beating.cancel()
    await asyncio.wait((beating,))


async def test_a_submit_that_can_never_be_sent_is_refused_at_once(small: World) -> None:
    with pytest.raises(TooLarge):
        await small.client.submit("echo", 1, metadata={"note": "x" * 1_100_000})
    with pytest.raises(TooLarge):
        await small.client.submit("echo", "x" * MAX_VALUE_BYTES)
    with pytest.raises(MeshError):
        await small.client.submit("no name", 1)
