"""Every submit ends as a task or as a dead letter, whatever its body (behaviours 4 and 6)."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh import AppError, Client, Context, InvalidInput, Mesh
from mesh.testing import eventually
from schemas.command import parse_submit
from schemas.ids import derived_id, is_name
from schemas.instant import unix
from tests.integration.world import World


@pytest.fixture
def app() -> Mesh:
    app = Mesh("shop")

    @app.agent
    async def echo(ctx: Context, value: Any) -> Any:
        return value

    return app


async def publish(world: World, agent: str, body: bytes) -> int:
    return await world.bus.publish(f"{world.settings.prefix}.submit.{agent}", body)


async def created(world: World) -> str:
    return await world.bus.stream_created(world.names.work)


async def test_the_id_of_a_submit_without_one_follows_from_where_it_is_stored(world: World, app: Mesh) -> None:
    sequence = await publish(world, "echo", b"hello")
    stored = await world.bus.get(world.names.work, sequence)
    assert stored is not None
    id = derived_id(int(unix(stored.at) * 1000), await created(world), sequence)
    await world.serve(app)
    assert (await world.outcome(id)).result.output == "hello"


async def test_two_submits_with_one_id_run_once(world: World, app: Mesh) -> None:
    await world.serve(app)
    for body in (b'{"task_id": "one", "input": [1, 2]}', b'{ "input" : [1,2], "trace": "x", "task_id":"one" }'):
        await publish(world, "echo", body)
    await eventually(world.queue_is_empty)
    outcome = await world.outcome("one")
    assert outcome.types.count("task.started") == 1
    assert not await world.dead("duplicate_id")
    await publish(world, "echo", b'{"task_id": "one", "input": [1, 2]}')
    await eventually(world.queue_is_empty)
    assert await world.outcome("one") == outcome


@pytest.mark.parametrize("size", [10, 200_000, 900_000])
async def test_another_body_under_a_used_id_is_a_dead_letter_with_all_that_is_needed(
    world: World, app: Mesh, size: int
) -> None:
    await world.serve(app)
    await world.client.submit("echo", "first", task_id="one")
    outcome = await world.outcome("one")
    body = msgspec.json.encode({"task_id": "one", "input": "y" * size})
    await publish(world, "echo", body)
    (letter,) = await eventually(lambda: world.dead("duplicate_id"))
    assert letter.error.code == "duplicate_id"
    assert letter.subject == f"{world.settings.prefix}.submit.echo"
    assert letter.size == len(body)
    kept = letter.body.encode() if letter.encoding == "utf-8" else base64.b64decode(letter.body)
    assert kept == body[: len(kept)]
    assert len(kept) == min(len(body), 700 * 1024)
    assert await world.outcome("one") == outcome


async def test_a_deadline_ends_a_task_that_no_executor_takes(world: World, app: Mesh) -> None:
    await world.router()
    executor = await world.executor(app)
    await executor.stop()
    task = await world.client.submit("echo", "x", deadline_s=0.2)
    outcome = await world.outcome(task.id)
    assert outcome.types == ["task.accepted", "task.failed"]
    assert outcome.result.error is not None
    assert outcome.result.error.code == "deadline_exceeded"
    assert outcome.result.error.message == "no executor began the task within its deadline_s"


async def test_a_deadline_ends_a_task_that_runs(world: World) -> None:
    app = Mesh("shop")

    @app.agent
    async def forever(ctx: Context) -> None:
        await ctx.step("wait", wait_for_ever)

    await world.serve(app)
    task = await world.client.submit("forever", None, deadline_s=0.2)
    outcome = await world.outcome(task.id)
    assert outcome.types == ["task.accepted", "task.started", "task.failed"]
    assert outcome.result.error is not None
    assert outcome.result.error.code == "deadline_exceeded"
    await eventually(world.queue_is_empty)


async def wait_for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_deadline_that_has_passed_before_the_router_came_still_ends_the_task(world: World, app: Mesh) -> None:
    await publish(world, "echo", b'{"task_id": "t", "input": 1, "deadline_s": 0.000001}')
    await world.router()
    executor = await world.executor(app)
    await executor.stop()
    assert (await world.outcome("t")).result.state in ("failed", "completed")


async def test_a_task_that_ends_in_time_is_not_touched_by_its_deadline(world: World, app: Mesh) -> None:
    await world.serve(app)
    task = await world.client.submit("echo", "x", deadline_s=0.3)
    outcome = await world.outcome(task.id)

    async def no_timer_is_left() -> bool:
        return not await world.queued("later") and not await world.queued("fired")

    await eventually(no_timer_is_left)
    assert await world.outcome(task.id) == outcome


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"task_id": "t", "inputs": 1}', "no `input`"),
        (b'{"task_id": "t", "input": 1, "deadline_s": "x"}', "$.deadline_s"),
        (b'{"task_id": "t", "input": ' + b"[" * 100 + b"]" * 100 + b"}", "nested"),
    ],
)
async def test_a_bad_body_is_a_rejected_task_that_says_why(world: World, app: Mesh, body: bytes, says: str) -> None:
    await world.serve(app)
    await publish(world, "echo", body)
    outcome = await world.outcome("t")
    assert outcome.types == ["task.rejected"]
    assert outcome.result.error is not None
    assert says in outcome.result.error.message


@pytest.mark.parametrize("size", [770 * 1024, 1024 * 1024 - 200])
async def test_metadata_that_fit_no_commit_are_rejected_as_too_large(world: World, app: Mesh, size: int) -> None:
    await world.serve(app)
    await publish(world, "echo", b'{"task_id": "t", "input": 1, "metadata": {"a": "%s"}}' % (b"x" * (size - 70)))
    outcome = await world.outcome("t")
    assert outcome.result.state == "rejected"
    assert outcome.result.error is not None
    assert outcome.result.error.code == "too_large"


async def test_a_submit_to_no_agents_name_is_a_dead_letter(world: World) -> None:
    await world.router()
    await publish(world, "No.Such", b"\xff" * 900_000)
    (letter,) = await eventually(lambda: world.dead("invalid_subject"))
    assert (letter.task, letter.encoding, letter.size) == ("-", "base64", 900_000)
    await eventually(world.queue_is_empty)


async def test_an_unknown_agent_is_rejected_with_the_nearest_name(world: World, app: Mesh) -> None:
    await world.serve(app)
    result = (await world.outcome((await world.client.submit("ecko", 1)).id)).result
    assert result.state == "rejected"
    assert result.error is not None
    assert (result.error.code, result.error.hint) == ("unknown_agent", "did you mean 'echo'?")


async def test_an_agent_that_registers_within_the_grace_gets_the_task(world: World, app: Mesh) -> None:
    world.set(unknown_agent_grace_s=30.0)
    await world.router()
    task = await world.client.submit("echo", "wait for me")
    await eventually(lambda: world.queued("submit"))
    await world.executor(app)
    assert (await world.outcome(task.id)).result.output == "wait for me"


async def test_an_agent_without_a_live_worker_is_accepted_and_waits(world: World, app: Mesh) -> None:
    executor = await world.serve(app)
    await executor.stop()
    task = await world.client.submit("echo", "later")
    await world.reaches(task.id, "runnable")
    await world.executor(app)
    assert (await world.outcome(task.id)).result.output == "later"


async def test_a_name_that_another_app_has_is_refused_at_start_and_both_are_named(world: World, app: Mesh) -> None:
    other = Mesh("store")
    other.agent(name="echo")(app.agents["echo"].handler)
    await world.executor(app)
    with pytest.raises(AppError, match=r"'echo' of app 'store'.*'shop'"):
        await world.executor(other)


@pytest.mark.parametrize(
    "options",
    [
        {"task_id": "a--b"},
        {"owner": "me"},
        {"deadline_s": -1.0},
        {"context_id": ""},
        {"metadata": {"x": "\ud800"}},
        {"metadata": {"x": 1j}},
    ],
    ids=repr,
)
async def test_a_client_refuses_what_a_router_would_before_it_is_sent(world: World, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        await world.client.submit("echo", 1, **options)
    assert not await world.queued("submit")


@pytest.mark.parametrize("call", [Client.tail, Client.result, Client.cancel, Client.task])
async def test_an_id_that_is_none_is_refused_before_anything_is_asked(
    world: World, call: Callable[..., Awaitable[Any]]
) -> None:
    with pytest.raises(InvalidInput):
        await call(world.client, "no id.>")


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3))
keys = st.sampled_from(["input", "inputs", "task_id", "context_id", "owner", "deadline_s", "metadata", "trace", "x"])
odd: st.SearchStrategy[Any] = st.sampled_from(["a", "b", "a--b", "", "x" * 70, 5.0, -1, None, {}, "t/u", "\x00"])
bodies = (
    st.binary(max_size=60)
    | st.text(max_size=60).map(str.encode)
    | st.dictionaries(keys, values | odd, max_size=5).map(msgspec.json.encode)
    | st.dictionaries(keys, odd, max_size=6).map(lambda d: msgspec.json.encode(d | {"input": 1}))
    | st.integers(60, 2000).map(lambda n: b'{"input":' + b"[" * n + b"]" * n + b"}")
)
agents = st.sampled_from(["echo", "echo", "echo", "nosuch", "Echo", "echo.x", "-", "é"])


def drawn(count: int) -> list[tuple[str, bytes]]:
    """That many submits, as hypothesis makes them."""
    found: list[tuple[str, bytes]] = []

    @settings(max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(agents, bodies)
    def collect(agent: str, body: bytes) -> None:
        found.append((agent, body))

    collect()
    return found


async def test_whatever_is_published_ends_as_a_task_or_a_dead_letter(world: World, app: Mesh) -> None:
    submits = drawn(400)
    stored = [(agent, body, await publish(world, agent, body)) for agent, body in submits]
    times = {
        sequence: message.at
        for _, _, sequence in stored
        if (message := await world.bus.get(world.names.work, sequence)) is not None
    }
    router = await world.router()
    executor = await world.executor(app)
    await eventually(world.queue_is_empty, 30.0)
    made = await created(world)
    duplicates = [letter.body for letter in await world.dead("duplicate_id")]
    for agent, body, sequence in stored:
        if not is_name(agent):
            continue
        read = parse_submit(agent, body)
        given_id = read.submit.task_id if hasattr(read, "submit") else read.task_id
        task = given_id or derived_id(int(unix(times[sequence]) * 1000), made, sequence)
        entries = await world.entries(task)
        assert entries, (agent, body)
        assert entries[-1].commit.head.phase == "ended", (agent, body)
        opening = entries[0].commit.events[0].data
        if opening.digest != read.digest:
            assert body.decode() in duplicates, (agent, body)
    buried = await world.dead("invalid_subject")
    assert len(buried) == sum(not is_name(agent) for agent, _ in submits)
    await router.stop()
    await executor.stop()


@pytest.mark.parametrize(
    "record", [b"otters", b'{"v":1,"app":"\xff"}', b'{"x":' + b"[" * 100_000], ids=["text", "bytes", "deep"]
)
async def test_records_that_nobody_can_read_are_left_out_of_the_registry(
    world: World, app: Mesh, record: bytes
) -> None:
    await world.router()
    await world.bus.put(world.names.agents, "strange", record)
    await world.bus.put(world.names.workers, "strange", record)
    await world.executor(app)
    await world.router()
    assert (await world.run("echo", "x")).output == "x"
    assert (await world.run("nobody", "x")).state == "rejected"
