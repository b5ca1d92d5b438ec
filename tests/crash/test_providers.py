"""Executors that die, stand still or come in numbers while a provider streams to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh import Text
from mesh.log.merge import TaskEvent
from mesh.server import EmbeddedServer
from mesh.settings import Settings
from mesh.testing import LocalMesh, Processes, assert_invariants, assert_tail
from tests.models.server import ProviderServer, stalls, streams
from tests.models.wires import Chat, Responses, Wire
from tests.models.wires import Text as Said

SETTINGS = Settings(ack_wait_s=0.5)
APP = f"{Path(__file__).parent / 'models_app.py'}:app"


@pytest.fixture
async def mesh(mesh_server: EmbeddedServer) -> AsyncIterator[LocalMesh]:
    async with LocalMesh(server=mesh_server, settings=SETTINGS) as mesh:
        yield mesh


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProviderServer]:
    """Its address is in the environment that the processes are started with."""
    async with ProviderServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        yield server


@pytest.fixture
async def processes(mesh: LocalMesh, provider: ProviderServer) -> AsyncIterator[Processes]:
    async with Processes(mesh.url, APP, settings=mesh.settings) as processes:
        yield processes


@pytest.mark.parametrize("frozen", [False, True], ids=["killed", "frozen"])
@pytest.mark.parametrize(("agent", "wire"), [("chat", Chat()), ("responses", Responses())])
async def test_a_stream_whose_executor_is_gone_is_begun_anew_and_its_text_taken_back(
    mesh: LocalMesh, processes: Processes, provider: ProviderServer, agent: str, wire: Wire, frozen: bool
) -> None:
    provider.answers += [
        stalls(wire.parts(Said(["wrong ", "half"]))),
        streams(wire.parts(Said(["the ", "whole"])) + wire.end()),
    ]
    first = await processes.start("executor")
    task = await mesh.client.submit(agent, "go")
    told: list[TaskEvent] = []

    async def follow() -> None:
        told.extend([event async for event in task.tail()])

    following = asyncio.create_task(follow())
    live = task.tail()
    async for event in live:
        if isinstance(event.data, Text) and event.data.text.endswith("half"):
            break
    await live.aclose()
    if frozen:
        first.freeze()
    else:
        await first.kill()
    await processes.start("executor")
    assert (await task.result(30)).output == "the whole"
    await following
    first.thaw()
    entries = await mesh.log(task.id)
    assert_invariants(entries)
    assert_tail(told, entries)
    assert "text.discarded" in {event.type for event in told}
    await asyncio.wait_for(provider.exchanges[0].closed.wait(), 10)
    assert len(provider.exchanges) == 2
    assert await mesh.log(task.id) == entries


async def test_two_executors_share_the_tasks_and_ask_once_for_each(
    mesh: LocalMesh, processes: Processes, provider: ProviderServer
) -> None:
    wire, count = Chat(), 40
    provider.answers += [streams(wire.parts(Said(["a ", "b ", "c"])) + wire.end()) for _ in range(count)]
    for _ in range(2):
        await processes.start("executor")
    tasks = [await mesh.client.submit("chat", f"{number}") for number in range(count)]
    results = await asyncio.gather(*(task.result(30) for task in tasks))
    assert {result.output for result in results} == {"a b c"}
    assert sorted(body["messages"][-1]["content"] for body in provider.bodies) == sorted(map(str, range(count)))
    for task in tasks:
        assert_invariants(await mesh.log(task.id))
