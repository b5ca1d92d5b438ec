"""One worker is told over the bus to leave; what it held goes on elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from mesh.server import EmbeddedServer
from mesh.testing import eventually
from schemas.worker import DRAIN, HOLDS, WorkerAnswer, WorkerRequest
from tests.integration.holding import Holding, holding

NEVER_S = 60.0
SOON_S = 15.0


@pytest.fixture
async def held(mesh_server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[Holding]:
    async with holding(mesh_server, tmp_path, ack_wait_s=NEVER_S, drain_s=NEVER_S) as held:
        yield held


async def ask(held: Holding, worker: str, body: bytes) -> WorkerAnswer:
    answer = await held.mesh.bus.request(held.mesh.names.worker(worker), body, timeout_s=5)
    return msgspec.json.decode(answer.data, type=WorkerAnswer)


async def tell_to_drain(held: Holding, worker: str, within_s: float | None) -> None:
    answer = await ask(held, worker, msgspec.json.encode(WorkerRequest(kind=DRAIN, within_s=within_s)))
    assert (answer.worker, answer.draining, answer.error) == (worker, True, "")


async def test_a_drained_executor_hands_its_tasks_to_another_and_its_process_ends(held: Holding) -> None:
    first = await held.processes.start("executor")
    task = await held.mesh.client.submit("holds", str(held.gate))
    worker = await held.lists(first)
    await held.processes.start("executor")
    await tell_to_drain(held, worker, 0.05)
    assert await first.wait() == 0
    await eventually(lambda: held.effects("hold") == 2, SOON_S)
    held.open_gate()
    assert (await task.result(SOON_S)).output == "held"
    starts, releases = await held.story(task.id)
    assert [one.attempt for one in starts] == [1, 1]
    assert [one.reason for one in releases] == ["drain"]
    assert await held.mesh.bus.fetch(held.mesh.names.workers, worker) is None


async def test_a_drained_executor_takes_nothing_new_and_ends_what_it_can(held: Holding) -> None:
    first = await held.processes.start("executor")
    task = await held.mesh.client.submit("holds", str(held.gate))
    worker = await held.lists(first)
    await tell_to_drain(held, worker, None)
    later = await held.mesh.client.submit("echo", "later")

    async def is_draining() -> bool:
        return any(one.draining for one in await held.workers() if one.worker == worker)

    await eventually(is_draining)
    await held.processes.start("executor")
    assert (await later.result(SOON_S)).output == "later"
    assert held.effects("hold") == 1
    held.open_gate()
    assert (await task.result(SOON_S)).output == "held"
    assert await first.wait() == 0
    starts, releases = await held.story(task.id)
    assert (len(starts), len(releases)) == (1, 0)


async def test_a_drained_tool_runner_hands_back_what_may_be_repeated(held: Holding) -> None:
    await held.processes.start("executor")
    first = await held.processes.start("tool-runner")
    task = await held.mesh.client.submit("calls", {"tool": "look_up", "path": str(held.gate)})
    worker = await held.lists(first)
    await held.processes.start("tool-runner")
    await tell_to_drain(held, worker, 0.05)
    assert await first.wait() == 0
    await eventually(lambda: held.effects("look up") == 2, SOON_S)
    held.open_gate()
    assert (await task.result(SOON_S)).output == "found"


async def test_a_worker_says_what_it_holds_and_what_it_does_not_understand(held: Holding) -> None:
    first = await held.processes.start("executor")
    await held.mesh.client.submit("holds", str(held.gate))
    worker = await held.lists(first)
    seq = next(one.held[0] for one in await held.workers() if one.worker == worker)
    for delivery, holds in ((1, True), (2, False)):
        body = msgspec.json.encode(WorkerRequest(kind=HOLDS, seq=seq, delivery=delivery))
        assert (await ask(held, worker, body)).holds is holds
    assert "dance" in (await ask(held, worker, b'{"kind": "dance"}')).error
    assert (await ask(held, worker, b"\xff")).error
