"""The doctor names what is wrong and what to do, and is content with what is right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mesh import Mesh
from mesh.agents.context import Context
from mesh.bus import Bus
from mesh.doctor import Finding, disk, examine
from mesh.doctor.server import Server, compare, judge
from mesh.server import EmbeddedServer, read_server_json
from mesh.settings import Settings
from mesh.testing import LocalMesh, eventually
from schemas.agent import WorkerRecord
from schemas.envelope import VERSION

app = Mesh("clinic", version="1")


@app.tool
def weigh(animal: str) -> float:
    """How heavy."""
    return 7.5


@app.agent
async def otter(ctx: Context, text: str) -> str:
    return text


@pytest.fixture
async def mesh(local_mesh: Callable[..., LocalMesh]) -> AsyncIterator[LocalMesh]:
    async with local_mesh(app) as mesh:
        yield mesh


@pytest.fixture
async def system(mesh_server: EmbeddedServer) -> AsyncIterator[Bus]:
    record = read_server_json(mesh_server.store)
    assert record is not None
    bus = await Bus.connect(record.system_url, name="doctor")
    yield bus
    await bus.aclose()


async def look(mesh: LocalMesh, system: Bus | None = None, *, apply: bool = False, **other: Any) -> list[Finding]:
    """What the doctor finds, perhaps with `other` settings than the mesh has."""
    settings = msgspec.structs.replace(mesh.settings, **other)
    return [one async for one in examine(mesh.bus, settings, apply=apply, system=system, here=True)]


def problems(found: list[Finding]) -> list[str]:
    return [f"{one.what}: {one.message}" for one in found if one.state == "problem"]


async def test_a_mesh_at_work_has_no_problem(mesh: LocalMesh, system: Bus) -> None:
    found = await look(mesh, system)
    assert problems(found) == []
    assert {one.what for one in found} == {
        "server", "durability", "disk", "clock", "streams", "router", "app", "dead letters",
    }  # fmt: skip


async def test_a_server_that_does_not_flush_is_named_where_the_profile_wants_it(mesh: LocalMesh, system: Bus) -> None:
    [found] = [one for one in await look(mesh, system, profile="single") if one.state == "problem"]
    assert "server mesh flushes every 120 s" in found.message
    assert "sync_interval: always" in found.cure


async def test_a_flushing_server_is_what_the_profile_single_wants(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "store", durability="single") as server:
        record = read_server_json(server.store)
        assert record is not None
        system = await Bus.connect(record.system_url, name="doctor")
        try:
            async with LocalMesh(server=server, settings=Settings(profile="single")) as mesh:
                assert problems(await look(mesh, system)) == []
        finally:
            await system.aclose()


async def test_without_the_system_account_the_doctor_says_what_it_cannot_see(mesh: LocalMesh) -> None:
    [found] = [one for one in await look(mesh, profile="single") if one.what == "durability"]
    assert found.state == "note"
    assert "MESH_SYSTEM_URL" in found.cure


async def test_one_server_is_no_cluster(mesh: LocalMesh, system: Bus) -> None:
    found = problems(await look(mesh, system, profile="cluster", apply=True))
    assert any("keeps 3 replicas; servers at work: 1" in one for one in found)
    assert any("replicas > 1 not supported" in one for one in found)


async def test_who_is_missing_is_said(mesh: LocalMesh) -> None:
    await mesh.stop()
    found = problems(await look(mesh))
    assert any(one.startswith("router: none is at work") for one in found)
    assert any("nobody is at work for otter" in one for one in found)


async def test_an_app_whose_tools_nobody_runs_is_said(local_mesh: Callable[..., LocalMesh]) -> None:
    async with local_mesh(app, tool_runners=0) as mesh:
        found = problems(await look(mesh))
        assert any("nobody makes the calls of weigh" in one for one in found)
        assert any("consumer call_clinic" in one for one in found)


async def test_the_doctor_leaves_the_setting_of_a_consumer_and_names_both_values(mesh: LocalMesh) -> None:
    found = await look(mesh, apply=True, ack_wait_s=5.0)
    assert [one.message for one in found if one.what == "apply"] == ["nothing was to be done"]
    differing = {one.message.partition(":")[0]: one for one in found if "ack_wait is" in one.message}
    assert set(differing) == {
        f"consumer {name} of {stream}"
        for name, stream in (
            ("router_submit", mesh.names.work), ("router_signal", mesh.names.work), ("run_clinic", mesh.names.runs),
            ("call_clinic", mesh.names.runs),
        )
    }  # fmt: skip
    for one in differing.values():
        assert (one.state, "ack_wait is 3 s, MESH_ACK_WAIT_S here says 5 s" in one.message) == ("problem", True)
        assert "the same everywhere" in one.cure
    [services] = [one.message for one in found if one.what == "settings"]
    assert services.endswith(": MESH_ACK_WAIT_S=3; here it is 5")
    assert all(service in services for service in ("router-", "executor-", "tool-runner-"))
    assert problems(await look(mesh)) == []


async def test_what_is_missing_is_created_and_what_was_changed_is_mended(mesh: LocalMesh) -> None:
    names = mesh.names
    await ask(mesh.bus, f"STREAM.DELETE.{names.dead_letters}")
    config = (await ask(mesh.bus, f"STREAM.INFO.{names.tasks}"))["config"]
    await ask(mesh.bus, f"STREAM.UPDATE.{names.tasks}", config | {"allow_direct": False})
    found = {one.message: one.cure for one in await look(mesh) if one.state == "problem"}
    assert found[f"stream {names.dead_letters} is missing"] == "mesh doctor --apply creates it"
    assert (
        "changes it, which loses nothing" in found[f"stream {names.tasks}: allow_direct is false, the mesh needs true"]
    )
    assert problems(await look(mesh, apply=True)) == []


async def test_a_stream_of_another_kind_is_not_touched(mesh: LocalMesh) -> None:
    names = mesh.names
    await ask(mesh.bus, f"STREAM.DELETE.{names.dead_letters}")
    other = {"name": names.dead_letters, "subjects": [f"{names.prefix}.dead.>"], "storage": "memory"}
    await ask(mesh.bus, f"STREAM.CREATE.{names.dead_letters}", other)
    found = await look(mesh, apply=True)
    assert any("storage is" in one for one in problems(found))
    assert any("cannot be changed without loss" in one.cure for one in found)
    assert (await ask(mesh.bus, f"STREAM.INFO.{names.dead_letters}"))["config"]["storage"] == "memory"


async def test_a_task_that_comes_no_further_is_named_and_one_that_speaks_is_not(
    local_mesh: Callable[..., LocalMesh], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.doctor.work.QUIET_S", 1.5)
    told = Mesh("told", version="1")

    @told.agent
    async def hangs(ctx: Context, _: str) -> None:
        await asyncio.Event().wait()

    @told.agent
    async def speaks(ctx: Context, _: str) -> None:
        while True:
            await ctx.emit_text("on and on")
            await asyncio.sleep(0.1)

    async with local_mesh(told) as mesh:
        for agent in ("hangs", "speaks"):
            await mesh.client.submit(agent, "x", task_id=agent)

        async def is_named() -> Finding:
            [found] = [one for one in await look(mesh) if "no further" in one.message]
            return found

        found = await eventually(is_named, forgive=ValueError)
        assert (found.state, "holds hangs, which came no further for" in found.message) == ("note", True)
        assert found.message.endswith(" s")
        assert "mesh show hangs" in found.cure


async def test_an_agent_whose_model_has_no_key_is_said(
    local_mesh: Callable[..., LocalMesh], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    asking = Mesh("asking", version="1")
    asking.model_agent("assistant", model="openai:gpt-5-mini", instructions="Help.")

    async def is_said(mesh: LocalMesh) -> None:
        found = problems(await look(mesh))
        assert any("agent 'assistant'" in one and "OPENAI_API_KEY is not set" in one for one in found)

    async with local_mesh(asking) as mesh:
        await eventually(lambda: is_said(mesh), 20)


async def record(mesh: LocalMesh, **fields: object) -> None:
    one = WorkerRecord(v=VERSION, worker="executor-1-x", service="executor", pool="other", **fields)  # type: ignore[arg-type]
    await mesh.bus.put(mesh.names.workers, one.worker, msgspec.json.encode(one))


async def test_a_stuck_worker_is_a_problem_and_one_that_does_not_answer_is_noted(mesh: LocalMesh) -> None:
    await record(mesh)
    found = await look(mesh)
    assert problems(found) == []
    assert any("does not answer" in one.message for one in found if one.state == "note")
    await record(mesh, stuck="the event loop is blocked in app.py:7 (wait)")
    assert any("stuck: the event loop is blocked in app.py:7" in one for one in problems(await look(mesh)))


async def test_a_full_stream_is_a_problem(mesh: LocalMesh) -> None:
    config = (await ask(mesh.bus, f"STREAM.INFO.{mesh.names.tasks}"))["config"]
    await ask(mesh.bus, f"STREAM.UPDATE.{mesh.names.tasks}", config | {"max_bytes": 2000})
    await mesh.bus.append(mesh.names.task("t"), b"x" * 1800, expected=0)
    assert any("full; it refuses appends at 100%" in one for one in problems(await look(mesh)))


async def test_a_bounded_work_queue_is_a_problem_because_it_drops(mesh: LocalMesh) -> None:
    config = (await ask(mesh.bus, f"STREAM.INFO.{mesh.names.work}"))["config"]
    await ask(mesh.bus, f"STREAM.UPDATE.{mesh.names.work}", config | {"max_bytes": 1_000_000})
    [found] = [one for one in await look(mesh) if one.state == "problem"]
    assert "drops the oldest submits" in found.message
    assert "--max-bytes=-1" in found.cure


async def ask(bus: Bus, call: str, body: object = None) -> dict[str, Any]:
    answer = await bus.request(f"$JS.API.{call}", msgspec.json.encode(body) if body else b"", timeout_s=5)
    return msgspec.json.decode(answer.data, type=dict[str, Any])


async def test_a_server_that_is_nearly_full_is_a_problem(mesh: LocalMesh) -> None:
    full = Server(name="n2", version="2.15.1", store="", used=95, limit=100, flush_s=0)
    empty = Server(name="n1", version="2.15.1", store="", used=5, limit=100, flush_s=0)
    assert (await disk.look(mesh.bus, [empty], here=False)).state == "ok"
    found = await disk.look(mesh.bus, [empty, full], here=False)
    assert (found.state, "server n2" in found.message) == ("problem", True)


@pytest.mark.parametrize(
    ("said", "message", "cure"),
    [
        ({"version": "2.11.9"}, "is too old", "2.12 or newer"),
        ({"jetstream": False}, "has no JetStream", "-js"),
        ({"led": False}, "has no leader", "must be at work"),
        ({}, "JetStream is on", ""),
    ],
    ids=["old", "without JetStream", "without a leader", "good"],
)
def test_a_server_that_can_hold_no_mesh_is_a_problem(said: dict[str, Any], message: str, cure: str) -> None:
    found = judge({"version": "2.12.0", "jetstream": True, "led": True} | said, "nats://ann:secret@there:4222")
    assert found.state == ("problem" if said else "ok")
    assert message in found.message
    assert cure in found.cure
    assert "nats://there:4222" in found.message


@pytest.mark.parametrize(
    ("before", "theirs", "after", "state"),
    [
        (100.0, 100.1, 100.2, "ok"),
        (100.0, 98.0, 100.0, "problem"),
        (100.0, 102.0, 100.0, "problem"),
        (100.0, 99.5, 104.0, "ok"),
    ],
    ids=["the same", "ours is ahead", "ours is behind", "the answer took too long to tell"],
)
def test_clocks_are_compared_within_what_a_round_trip_tells(
    before: float, theirs: float, after: float, state: str
) -> None:
    assert compare(before, theirs, after).state == state
