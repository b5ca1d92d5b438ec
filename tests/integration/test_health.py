"""What an operator sees of a service that is alive and does nothing."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from mesh import Context, Mesh
from mesh.bus import Bus, LiveMessage
from mesh.census import census
from mesh.log.ops import Ack, Verdict
from mesh.server import EmbeddedServer
from mesh.streams import Consumer, Definitions, run_consumer
from mesh.testing import eventually
from mesh.worker import Held, Worker
from schemas.service import ServicePing, ServiceStats
from tests.integration.holding import cable_to, url_of
from tests.integration.world import World


async def health(world: World, service: str) -> tuple[str, str]:
    """The state of the one service of a kind, and why."""
    [ping] = await census(world.bus, f"$SRV.PING.{world.names.prefix}-{service}", ServicePing)
    return ping.metadata["health"], ping.metadata.get("reason", "")


async def becomes(world: World, service: str, state: str) -> str:
    """Waits until it says so; the reason."""

    async def is_so() -> str:
        found, reason = await health(world, service)
        assert found == state, (found, reason)
        return reason or found

    return await eventually(is_so)


async def call(world: World, api: str, body: object = None) -> None:
    data = msgspec.json.encode(body) if body else b""
    answer = await world.bus.request(f"$JS.API.{api}", data, timeout_s=5)
    assert b'"error"' not in answer.data, answer.data


async def test_a_router_whose_deliveries_hang_is_stuck(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.router.process.STALE_S", 0.5)
    await world.router()
    await call(world, f"STREAM.DELETE.{world.names.tasks}")
    await world.bus.publish(world.names.submit("nobody"), b"otter")
    reason = await becomes(world, "router", "stuck")
    assert reason.startswith("router_submit: 1 of 500 slots are taken, the oldest for ")


async def test_a_queue_that_the_broker_does_not_tell_of_is_unknown_and_then_stuck(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.worker.health.STALE_S", 3.0)
    await world.router()
    assert (await health(world, "router")) == ("ok", "")
    await call(world, f"STREAM.DELETE.{world.names.work}")
    reason = await becomes(world, "router", "unknown")
    assert "what waits is not known" in reason
    [stats] = await census(world.bus, f"$SRV.STATS.{world.names.prefix}-router", ServiceStats)
    assert {one.data.pending for one in stats.endpoints} == {-1}
    assert await becomes(world, "router", "stuck") == reason


async def test_a_consumer_that_was_deleted_leaves_no_mark_once_it_is_there_again(world: World) -> None:
    await world.router()
    await call(world, f"CONSUMER.DELETE.{world.names.work}.router_submit")
    await becomes(world, "router", "ok")
    await eventually(lambda: world.bus.consumer_state(world.names.work, "router_submit"))
    await becomes(world, "router", "ok")


async def test_a_full_store_pauses_a_service_until_there_is_room(world: World) -> None:
    tasks = world.names.tasks
    await world.router()
    info = msgspec.json.decode((await world.bus.request(f"$JS.API.STREAM.INFO.{tasks}", b"", timeout_s=5)).data)
    await call(world, f"STREAM.UPDATE.{tasks}", info["config"] | {"max_bytes": 100})
    await world.bus.publish(world.names.submit("nobody"), b"otter")
    assert "store is full" in await becomes(world, "router", "paused")
    await call(world, f"STREAM.UPDATE.{tasks}", info["config"])
    await becomes(world, "router", "ok")


async def test_an_executor_with_long_work_is_busy_and_says_for_how_long(world: World) -> None:
    world.set(slots=1)
    app = Mesh("shop")

    @app.agent
    async def hangs(ctx: Context, _: str) -> None:
        await asyncio.Event().wait()

    await world.serve(app)
    for _ in range(2):
        await world.client.submit("hangs", "x")
    reason = await becomes(world, "executor", "busy")
    assert reason.startswith("run_shop: 1 of 1 slots are taken, the oldest for ")
    assert reason.endswith(" s, and 1 deliveries wait")


class Calls:
    """What others ask of the broker about one consumer."""

    def __init__(self, consumer: str) -> None:
        self.seen: list[str] = []
        self._consumer = consumer

    def take(self, advisory: LiveMessage) -> None:
        subject = msgspec.json.decode(advisory.data)["subject"]
        if subject.endswith(f".{self._consumer}") and ".CONSUMER." in subject:
            self.seen.append(subject.split(".")[3])


async def test_services_with_different_settings_do_not_take_turns_with_a_consumer(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "s") as server, World(server) as world:
        consumer = run_consumer(world.names, "shop", ack_wait_s=3.0)
        await world.bus.ensure_consumer(run_consumer(world.names, "shop", ack_wait_s=7.0))
        calls = Calls("run_shop")

        async def handle(held: Held) -> Verdict:
            return Ack()

        async with cable_to(server) as cable:
            bus = await Bus.connect(url_of(cable), name="executor-1-x")
            worker, started = Worker(bus, consumer, handle, slots=1), asyncio.Event()
            serving = asyncio.create_task(worker.serve(started))
            await started.wait()
            async with aclosing(await world.bus.subscribe("$JS.EVENT.ADVISORY.API", calls.take)):
                cable.drop()
                await eventually(lambda: calls.seen)
                cable.drop()  # whatever follows the first look is over before the second
                await eventually(lambda: calls.seen.count("INFO") >= 2)
            worker.stop()
            await serving
            await bus.aclose()
        assert set(calls.seen) == {"INFO"}
        [found] = await world.bus.inspect(_only(consumer))
        assert (found.field, found.there, found.wanted) == ("ack_wait", "7 s", "3 s")


def _only(consumer: Consumer) -> Definitions:
    return Definitions(streams=(), buckets=(), consumers=(consumer,))
