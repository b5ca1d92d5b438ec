"""Every service says how it is, in the words of the NATS micro protocol, also when its event loop is blocked."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable

import pytest
from structlog.testing import capture_logs

from mesh import Context, Mesh
from mesh.census import census
from mesh.registry import read_registry
from mesh.testing import LocalMesh, Processes, eventually
from mesh.worker.health import STALE_S, Health, Queue, judge
from mesh.worker.pulse import Pulse
from schemas.service import ServiceInfo, ServicePing, ServiceStats

app = Mesh("watched", version="7")


@app.agent
async def greet(ctx: Context, name: str) -> str:
    return f"hello {name}"


@app.agent
async def held(ctx: Context, _: str) -> str:
    await asyncio.sleep(3600)
    return ""


@app.agent
async def blocking(ctx: Context, seconds: float) -> str:
    await ctx.emit_text("now ")
    time.sleep(seconds)  # the mistake that must be seen
    return "done"


@pytest.fixture
async def mesh(local_mesh: Callable[..., LocalMesh]) -> AsyncIterator[LocalMesh]:
    async with local_mesh(app) as mesh:
        yield mesh


@pytest.mark.parametrize("level", ["all", "kind", "one"])
async def test_a_service_answers_at_every_level(mesh: LocalMesh, level: str) -> None:
    name = f"{mesh.settings.prefix}-router"
    [everybody] = [one for one in await census(mesh.bus, "$SRV.PING", ServicePing) if one.name == name]
    subject = {"all": "", "kind": f".{name}", "one": f".{name}.{everybody.id}"}[level]
    pings = [one for one in await census(mesh.bus, f"$SRV.PING{subject}", ServicePing) if one.name == name]
    infos = [one for one in await census(mesh.bus, f"$SRV.INFO{subject}", ServiceInfo) if one.name == name]
    stats = [one for one in await census(mesh.bus, f"$SRV.STATS{subject}", ServiceStats) if one.name == name]
    assert [pings[0].id, infos[0].id, stats[0].id] == [everybody.id] * 3
    assert [endpoint.name for endpoint in infos[0].endpoints] == ["router_submit", "router_signal"]
    assert stats[0].type == "io.nats.micro.v1.stats_response"
    assert everybody.metadata["health"] == "ok"


async def test_only_who_holds_the_handler_that_blocked_the_loop_says_so(mesh: LocalMesh) -> None:
    with capture_logs() as logs:
        await mesh.run("blocking", 2.5)
    assert [one["event"] for one in logs if one["log_level"] == "warning"] == ["the event loop was blocked"]


async def test_the_numbers_are_those_of_the_work(mesh: LocalMesh) -> None:
    await mesh.run("greet", "otter")
    await mesh.client.submit("held", "x")
    subject = f"$SRV.STATS.{mesh.settings.prefix}-executor"

    async def at_work() -> ServiceStats:
        [stats] = await census(mesh.bus, subject, ServiceStats)
        assert stats.endpoints[0].data.in_flight == 1
        return stats

    [queue] = (stats := await eventually(at_work)).endpoints
    assert (queue.name, queue.num_requests, queue.num_errors) == ("run_watched", 1, 0)
    assert queue.average_processing_time > 0
    assert (queue.data.pending, queue.data.unacknowledged) == (0, 1)
    assert stats.started < queue.data.last_progress
    assert (stats.metadata["pool"], stats.metadata["app_version"]) == ("watched", "7")


async def test_a_service_whose_event_loop_is_blocked_still_answers_and_says_where(
    local_mesh: Callable[..., LocalMesh],
) -> None:
    async with (
        local_mesh(app, executors=0) as mesh,
        Processes(mesh.url, app, settings=mesh.settings) as processes,
    ):
        executor = await processes.start("executor")
        await mesh.client.submit("blocking", 60.0)
        subject = f"$SRV.PING.{mesh.settings.prefix}-executor"

        async def is_stuck() -> ServicePing:
            pings = await census(mesh.bus, subject, ServicePing)
            assert [ping.metadata["health"] for ping in pings] == ["stuck"]
            return pings[0]

        ping = await eventually(is_stuck, 30.0)
        assert "test_micro.py" in ping.metadata["reason"]
        assert "(blocking)" in ping.metadata["reason"]
        assert ping.metadata["pid"] == str(executor.pid)

        async def is_noted() -> str:
            [worker] = (await read_registry(mesh.bus, mesh.names)).of_service("executor")
            return worker.stuck

        assert "(blocking)" in await eventually(is_noted)


async def test_the_one_who_speaks_for_a_blocked_loop_stops_when_it_moves_again() -> None:
    spoken, ended = threading.Event(), threading.Event()

    async def speak(pulse: Pulse, what: str) -> None:
        assert "test_micro.py" in what
        spoken.set()
        while pulse.blocked:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        ended.set()

    beating = asyncio.create_task(Pulse(speak, look_s=0.02).beat())
    await asyncio.sleep(0)
    assert spoken.wait(10.0)
    await eventually(ended.is_set)
    beating.cancel()
    await asyncio.wait((beating,))


def queue(**given: object) -> Queue:
    return Queue(**({"name": "q", "in_flight": 0, "slots": 2, "pending": 0, "idle_s": 99.0} | given))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("queues", "state"),
    [
        ([], "ok"),
        ([queue()], "ok"),
        ([queue(pending=5, idle_s=0.1)], "ok"),
        ([queue(pending=5, in_flight=2)], "busy"),
        ([queue(pending=5, in_flight=1, idle_s=STALE_S + 1)], "stuck"),
        ([queue(pending=5, paused=True)], "paused"),
        ([queue(pending=5, in_flight=2), queue(pending=1)], "stuck"),
        ([queue(pending=5, in_flight=2, oldest_s=9999.0)], "busy"),
        ([queue(in_flight=1, oldest_s=9.0, longest_s=10.0)], "ok"),
        ([queue(in_flight=1, oldest_s=11.0, longest_s=10.0)], "stuck"),
        ([queue(in_flight=1, oldest_s=11.0, longest_s=10.0, paused=True)], "paused"),
        ([queue(pending=-1, unread="no answer", unread_s=STALE_S - 1)], "unknown"),
        ([queue(pending=-1, unread="no answer", unread_s=STALE_S + 1)], "stuck"),
    ],
)
def test_health_is_told_from_what_waits_and_what_moves(queues: list[Queue], state: str) -> None:
    assert judge(queues, draining=False).state == state


def test_what_drains_is_not_stuck_and_what_is_blocked_is() -> None:
    assert judge([queue(pending=5)], draining=True).state == "draining"
    assert judge([queue()], draining=True, blocked="here") == Health("stuck", "here")
