"""One of the routers goes round, whatever the others do, and needs no more memory for a long queue."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
import pytest

from mesh import Context, Mesh
from mesh.bus import LiveMessage
from mesh.log.driver import Driver
from mesh.log.head import fold
from mesh.service import Stamp
from mesh.streams import definitions
from mesh.testing import eventually
from schemas.agent import WorkerRecord
from schemas.command import Run
from schemas.envelope import VERSION, Commit, Event, Head
from schemas.task import ACCEPTED, TaskAccepted
from schemas.worker import WorkerAnswer
from services.router.duty import Duty
from services.router.reconciler import WATCHED_S, Reconciler
from services.router.registry import AgentRegistry
from services.router.rules import Router
from tests.integration.world import World

app = Mesh("shop")


@app.agent
async def greet(ctx: Context, name: str) -> str:
    return f"hello {name}"


class Rounds:
    """Who has made one, by the consumer that each makes for it over the task logs."""

    def __init__(self, call: str) -> None:
        self.by: list[str] = []
        self._call = call

    def take(self, advisory: LiveMessage) -> None:
        told = msgspec.json.decode(advisory.data)
        if told["subject"] == self._call:
            self.by.append(told["client"]["name"].partition("/")[0])


@asynccontextmanager
async def watched(world: World) -> AsyncIterator[Rounds]:
    rounds = Rounds(f"$JS.API.CONSUMER.CREATE.{world.names.tasks}")
    async with aclosing(await world.bus.subscribe("$JS.EVENT.ADVISORY.API", rounds.take)):
        yield rounds


async def lost_command(world: World, task: str) -> None:
    """A task that was accepted and whose run command somebody purged; no executor is there."""
    await (await world.executor(app)).stop()
    await world.client.submit("greet", "otter", task_id=task)
    await world.reaches(task, "runnable")
    await eventually(lambda: world.queued("run"))
    await world.bus.purge(world.names.runs, f"{world.names.prefix}.>")


async def test_of_several_routers_the_first_goes_round_and_after_it_the_next(world: World) -> None:
    world.set(reconcile_s=0.1)
    routers = [await world.router() for _ in range(3)]
    first, second, third = sorted(routers, key=lambda one: one.service.name)

    async def goes_round(name: str) -> None:
        async with watched(world) as rounds:
            await eventually(lambda: len(rounds.by) >= 5)
        assert set(rounds.by) == {name}

    await eventually(lambda: goes_round(first.service.name))
    await first.stop()
    await eventually(lambda: goes_round(second.service.name))
    await second.cut_off()
    await eventually(lambda: goes_round(third.service.name))


async def test_a_router_does_what_the_one_before_it_died_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.router.reconciler.WATCHED_S", 0.5)
    old = await world.router()
    await lost_command(world, "t")
    await old.stop()
    asked = asyncio.Queue[None]()
    before = WorkerRecord(v=VERSION, worker="router-0", service="router")
    answer = msgspec.json.encode(WorkerAnswer(worker=before.worker))

    def take(request: LiveMessage) -> None:
        asked.put_nowait(None)
        answering.append(asyncio.ensure_future(world.bus.send(request.reply, answer)))

    answering: list[asyncio.Future[Any]] = []
    await world.bus.put(world.names.workers, before.worker, msgspec.json.encode(before))
    async with aclosing(await world.bus.subscribe(world.names.worker(before.worker), take)):
        await world.router()
        await asked.get()
    await asyncio.gather(*answering)
    await eventually(lambda: world.queued("run"))


async def test_a_record_that_outlives_its_router_keeps_nobody_waiting(world: World) -> None:
    old = await world.router()
    await lost_command(world, "t")
    await old.stop()
    dead = WorkerRecord(v=VERSION, worker="router-0", service="router")
    await world.bus.put(world.names.workers, dead.worker, msgspec.json.encode(dead))
    await world.router()
    await eventually(lambda: world.queued("run"), WATCHED_S / 2)


async def test_a_command_that_nobody_can_read_keeps_no_router_from_its_rounds(world: World) -> None:
    world.set(reconcile_s=0.1)
    old = await world.router()
    await lost_command(world, "t")
    await old.stop()
    await world.bus.publish(world.names.run("nobody"), b'{"v":1,"task":"\xff"}')
    await world.router()

    async def mended() -> bool:
        return any(message.subject == world.names.run("shop") for message in await world.queued("run"))

    await eventually(mended)
    async with watched(world) as rounds:
        await eventually(lambda: len(rounds.by) >= 2)


async def test_a_round_over_a_long_queue_keeps_a_page_of_it(world: World) -> None:
    """Each log and each command has 16 KiB; neither is ever all in memory."""
    count, opening = 2000, TaskAccepted(agent="greet", pool="shop", input="x" * 15_900, digest="d", sequence=1, at="")
    first = (Event(type=ACCEPTED, data=opening),)

    async def put(numbers: range) -> None:
        for number in numbers:
            task = f"t{number}"
            commit = Commit(
                v=VERSION, task=task, n=0, nonce=task, by="router/r", at="", head=fold(Head(), 0, "router/r", first),
                events=first,
            )  # fmt: skip
            body = msgspec.json.encode(commit)
            seq = await world.bus.append(world.names.task(task), body, expected=0)
            assert isinstance(seq, int)
            run = Run(
                v=VERSION, task=task, root=task, first=seq, last=seq, n=0, head=commit.head, wake=0, agent="greet",
                opening=msgspec.Raw(body),
            )  # fmt: skip
            await world.bus.publish(world.names.run("shop"), msgspec.json.encode(run))

    await asyncio.gather(*(put(range(start, count, 10)) for start in range(10)))
    router = Router(names=world.names, writer=Stamp("router", "r"), registry=AgentRegistry(), cancel_grace_s=1.0)
    reconciler = Reconciler(
        world.bus, Driver(world.bus, world.names), router, Duty(world.bus, world.names, "router-1"),
        in_memory=definitions(world.names).in_memory, every_s=300.0,
    )  # fmt: skip
    async with watched(world) as rounds:
        tracemalloc.start()
        going = asyncio.create_task(reconciler.serve())
        try:
            await eventually(lambda: rounds.by)
            reconciler.wake()
            await eventually(lambda: len(rounds.by) > 1, 30.0)  # so that the first one is over
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            going.cancel()
            await asyncio.wait((going,))
    assert peak < 16 * 1024 * 1024
    assert len(await world.queued("run")) == count
