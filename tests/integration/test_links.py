"""A worker has several connections to the broker; the one by which it commits decides whether it is lost."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from mesh.bus import parse_ack
from mesh.server import EmbeddedServer
from mesh.testing import WorkerProcess, eventually
from mesh.testing.cable import Cable
from schemas import task as tasks
from schemas.step import StepStarted
from schemas.worker import HOLDS, WorkerAnswer, WorkerRequest
from tests.integration.holding import Holding, cable_to, holding, url_of

LEASE_S = 0.5
NEVER_S = 60.0
SOON_S = 15.0
AGENTS = {"executor": "pays", "tool-runner": "calls"}


def is_control(name: str) -> bool:
    return name.startswith(tuple(AGENTS)) and "/" not in name


def is_commit(name: str) -> bool:
    return name.startswith(tuple(AGENTS)) and name.endswith("/commit")


@pytest.fixture
async def cable(mesh_server: EmbeddedServer) -> AsyncIterator[Cable]:
    async with cable_to(mesh_server) as cable:
        yield cable


async def begun(held: Holding, service: str) -> tuple[WorkerProcess, str]:
    """A worker behind the cable that is at a step which must not be repeated, another one elsewhere, and the task."""
    first = await held.processes.start(service)
    if service == "tool-runner":
        await held.others.start("executor")
    value = str(held.gate) if service == "executor" else {"tool": "charge_card", "path": str(held.gate)}
    task = await held.mesh.client.submit(AGENTS[service], value)
    await held.lists(first)
    await eventually(lambda: held.effects("charge") == 1)
    await held.others.start(service)
    return first, task.id


async def says_that_it_holds(held: Holding, worker: str) -> bool:
    record = next(one for one in await held.workers() if one.worker == worker)
    question = WorkerRequest(kind=HOLDS, seq=record.held[0], delivery=parse_ack(record.replies[0]).delivered)
    answer = await held.mesh.bus.request(held.mesh.names.worker(worker), msgspec.json.encode(question), timeout_s=5)
    return msgspec.json.decode(answer.data, type=WorkerAnswer).holds


async def kept(held: Holding, task: str) -> None:
    """Whoever began the step ended it, and nobody else tried."""
    events = [event.data for entry in await held.mesh.log(task) for event in entry.commit.events]
    assert sum(isinstance(data, StepStarted) for data in events) == held.effects("charge") == 1
    _, releases = await held.story(task)
    assert not releases
    await held.queue_is_empty()


@pytest.mark.parametrize("service", AGENTS)
async def test_a_worker_without_the_connection_of_its_deliveries_keeps_what_it_holds(
    mesh_server: EmbeddedServer, tmp_path: Path, cable: Cable, service: str
) -> None:
    async with holding(mesh_server, tmp_path, url=url_of(cable), ack_wait_s=LEASE_S) as held:
        first, task = await begun(held, service)
        worker = await held.name_of(first)
        cable.cut(is_control)
        cable.drop(is_control)
        over_at = time.monotonic() + 3 * LEASE_S
        await eventually(lambda: time.monotonic() > over_at)
        assert await says_that_it_holds(held, worker)
        held.open_gate()
        assert (await held.mesh.client.result(task, timeout_s=SOON_S)).output == "receipt"
        await kept(held, task)


@pytest.mark.parametrize("service", AGENTS)
async def test_a_worker_that_cannot_commit_is_lost_although_its_deliveries_come(
    mesh_server: EmbeddedServer, tmp_path: Path, cable: Cable, service: str
) -> None:
    async with holding(mesh_server, tmp_path, url=url_of(cable), ack_wait_s=NEVER_S) as held:
        first, task = await begun(held, service)
        cable.cut(is_commit)
        cable.drop(is_commit)
        assert (await held.mesh.client.result(task, timeout_s=SOON_S)).output == "ask the bank"
        entries = await held.mesh.log(task)
        held.open_gate()
        cable.mend()
        await held.lists(first, 0)
        assert await held.mesh.log(task) == entries
        assert held.effects("charge") == 1
        _, releases = await held.story(task)
        assert [one.reason for one in releases] == [tasks.CUT_OFF] * (service == "executor")
        await held.queue_is_empty()


@pytest.mark.parametrize("service", AGENTS)
async def test_a_worker_whose_connections_drop_and_come_back_keeps_what_it_holds(
    mesh_server: EmbeddedServer, tmp_path: Path, cable: Cable, service: str
) -> None:
    async with holding(mesh_server, tmp_path, url=url_of(cable), ack_wait_s=NEVER_S) as held:
        first, task = await begun(held, service)
        heard: list[bytes] = []
        async with aclosing(await held.asked(await held.name_of(first), heard)):
            cable.drop()
            await eventually(lambda: bool(heard), SOON_S)
        assert msgspec.json.decode(heard[0], type=WorkerRequest).kind == HOLDS
        held.open_gate()
        assert (await held.mesh.client.result(task, timeout_s=SOON_S)).output == "receipt"
        await kept(held, task)
