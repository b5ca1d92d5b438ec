"""What a worker says of itself, whatever the broker makes of it; and what the thread reads that speaks for its loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from mesh.bus import Bus
from mesh.server import EmbeddedServer
from mesh.service import ServiceConfig
from mesh.streams import definitions
from mesh.subjects import Subjects
from mesh.testing import LocalMesh, eventually
from mesh.worker import Crew
from mesh.worker.presence import Presence
from mesh.worker.pulse import Pulse
from schemas.agent import WorkerRecord
from tests.bus.broker import Broker

NAMES = Subjects("present")
WORKER = "executor-1-ab"
ROOM = 4096
CONFIG = f"""
max_payload: {ROOM}
authorization {{ users: [
  {{ user: all, password: secret }}
  {{ user: hidden, password: secret, permissions {{ publish {{ deny: ["$KV.>"] }} }} }}
] }}
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path, CONFIG)
    broker.start()
    yield broker
    broker.kill()


async def connect(broker: Broker, user: str) -> Bus:
    return await Bus.connect(f"nats://{user}:secret@127.0.0.1:{broker.port}", name=WORKER)


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[Bus]:
    async with aclosing(await connect(broker, "all")) as bus:
        await bus.ensure(definitions(NAMES))
        yield bus


@asynccontextmanager
async def beating(bus: Bus, record: Any) -> AsyncIterator[Presence]:
    presence = Presence(bus, NAMES.workers, record)
    task = asyncio.create_task(presence.beat())
    yield presence
    assert not task.done()
    task.cancel()
    await asyncio.wait((task,))


def holding(count: int, **more: Any) -> WorkerRecord:
    return WorkerRecord(
        v=1, worker=WORKER, service="executor", held=tuple(range(count)), in_flight=count,
        replies=tuple(f"$JS.ACK.PRESENT_RUN.run_shop.1.{n}.{n}.1767225600000000000.0" for n in range(count)), **more,
    )  # fmt: skip


async def written(bus: Bus) -> WorkerRecord:
    async def there() -> WorkerRecord:
        body = await bus.fetch(NAMES.workers, WORKER)
        assert body
        return msgspec.json.decode(body, type=WorkerRecord)

    return await eventually(there)


async def test_a_record_of_very_many_deliveries_lists_as_many_as_fit_and_counts_the_rest(bus: Bus) -> None:
    async with beating(bus, lambda: holding(1000)):
        record = await written(bus)
    assert record.in_flight == len(record.held) + record.unlisted == 1000
    assert record.held == tuple(range(len(record.replies)))
    size = len(msgspec.json.encode(record))
    assert ROOM - 200 < size <= ROOM


async def test_a_record_that_cannot_be_cut_is_refused_once_and_written_as_soon_as_it_fits(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.worker.presence.BEAT_S", 0.02)
    looks = 0

    def record() -> WorkerRecord:
        nonlocal looks
        looks += 1
        return holding(0, problems=("x" * ROOM,) if looks < 5 else ())

    with capture_logs() as logs:
        async with beating(bus, record):
            assert (await written(bus)).problems == ()
    assert [entry["event"] for entry in logs] == ["the presence record cannot be written"]


async def test_a_worker_whose_record_is_refused_says_so_once_and_leaves_in_order(
    broker: Broker, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.worker.presence.BEAT_S", 0.02)
    looks = 0

    def record() -> WorkerRecord:
        nonlocal looks
        looks += 1
        return holding(1)

    with capture_logs() as logs:
        async with aclosing(await connect(broker, "hidden")) as hidden, beating(hidden, record) as presence:
            await eventually(lambda: looks > 4)
            await presence.leave()
    assert [entry["event"] for entry in logs] == ["the presence record cannot be written"]
    assert "may not publish" in logs[0]["error"]


class Member:
    """A service that does nothing."""

    def stop(self) -> None: ...

    def stop_now(self) -> None: ...


async def test_who_speaks_for_a_blocked_loop_reads_nothing_that_the_loop_may_change(
    mesh_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.worker.crew.Pulse", partial(Pulse, look_s=0.02))
    readers: set[int] = set()

    def describe(record: WorkerRecord) -> WorkerRecord:
        readers.add(threading.get_ident())
        return record

    async with LocalMesh(server=mesh_server, routers=0) as mesh:
        crew = Crew("router", ServiceConfig(url=mesh.url, settings=mesh.settings), member=Member(), describe=describe)

        async def is_noted() -> str:
            async with aclosing(await Bus.connect(mesh.url, name="other")) as bus:
                body = await bus.fetch(mesh.names.workers, crew.name)
                return msgspec.json.decode(body, type=WorkerRecord).stuck if body else ""

        def noted() -> str:
            return asyncio.run(eventually(is_noted))

        async with crew.connected() as bus:
            started = asyncio.Event()
            serving = asyncio.create_task(crew.serve(bus, (), started.set))
            await started.wait()
            with ThreadPoolExecutor() as threads:
                stuck = threads.submit(noted).result()  # the loop stands still meanwhile
            crew.stop()
            await serving
    assert "is blocked in" in stuck
    assert readers == {threading.get_ident()}


async def test_a_report_that_fails_does_not_end_the_watching() -> None:
    told = 0

    async def speak(pulse: Pulse, what: str) -> None:
        nonlocal told
        told += 1
        raise RuntimeError("dictionary changed size during iteration")

    pulse = Pulse(speak, look_s=0.01)
    beating = asyncio.create_task(pulse.beat())
    await asyncio.sleep(0)
    while told < 2 and pulse._thread.is_alive():  # the loop stands still meanwhile
        time.sleep(0.01)
    assert told == 2
    beating.cancel()
    await asyncio.wait((beating,))
