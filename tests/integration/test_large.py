"""Ten megabytes everywhere, and what is missing is a clear error (behaviour 4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from mesh import ArtifactDamaged, ArtifactMissing, Context, Mesh
from mesh.testing import eventually
from schemas.object import LARGE_BYTES, digest_of
from schemas.step import StepCompleted, StepRequested
from schemas.task import TaskAccepted, TaskCompleted
from tests.integration.world import Outcome, World

TEN_MB = 10 * 1024 * 1024
LONG = "lörem " * (TEN_MB // 7)
app = Mesh("large")


@app.tool(idempotent=True)
def reverse(text: str) -> str:
    """Text from its end."""
    return text[::-1]


@app.agent
async def echo(ctx: Context, value: Any) -> Any:
    return value


@app.agent
async def grow(ctx: Context, count: int) -> int:
    first = await ctx.step("one", lambda: "x" * count)
    second = await ctx.step("two", lambda: "x" * count)
    return len(first + second)


@app.agent
async def calls(ctx: Context, text: str) -> int:
    turned = await asyncio.gather(*(ctx.tool(reverse, text) for _ in range(2)))
    assert turned == [text[::-1]] * 2
    return len(turned[0])


@app.agent
async def tells(ctx: Context, count: int) -> None:
    await ctx.emit_event("big", "x" * count)


@app.agent
async def writes(ctx: Context, count: int) -> bool:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, count, 100_000):
            yield b"y" * min(100_000, count - start)

    await ctx.write_artifact("out/stream.bin", pieces())
    await ctx.write_artifact("text.txt", "old")
    await ctx.write_artifact("text.txt", "x" * count)
    return len(await ctx.read_artifact("out/stream.bin")) == count


@pytest.fixture
async def large(world: World) -> World:
    await world.serve(app)
    await world.start("tool-runner", app=app)
    return world


async def outcome(world: World, agent: str, value: Any) -> Outcome:
    task = await world.client.submit(agent, value)
    return await world.outcome(task.id)


async def kept(world: World) -> int:
    return len([one async for one in world.bus.objects(world.names.artifacts)])


def events_of(found: Outcome, kind: type) -> list[Any]:
    return [one.data for entry in found.entries for one in entry.commit.events if isinstance(one.data, kind)]


@pytest.mark.parametrize("value", [LONG, {"texts": [LONG]}], ids=["text", "object"])
async def test_an_input_and_an_output_of_ten_megabytes_pass_and_are_kept_once(large: World, value: Any) -> None:
    found = await outcome(large, "echo", value)
    assert found.result.output == value
    (accepted,), (completed,) = events_of(found, TaskAccepted), events_of(found, TaskCompleted)
    assert accepted.input is None
    assert accepted.input_ref == completed.output_ref
    assert await kept(large) == 1


async def test_a_large_text_that_a_shell_submits_passes(large: World) -> None:
    body = LONG[:700_000].encode()
    await large.bus.publish(large.names.submit("echo"), body)
    await large.bus.publish(large.names.submit("echo"), b'{"task_id": "t", "input": "%s"}' % (b"x" * 900_000))
    assert (await large.outcome("t")).result.output == "x" * 900_000
    await eventually(large.queue_is_empty)
    assert await kept(large) == 2


async def test_step_results_of_ten_megabytes_pass(large: World) -> None:
    found = await outcome(large, "grow", TEN_MB)
    assert found.result.output == 2 * TEN_MB
    assert [data.output_ref.size for data in events_of(found, StepCompleted)] == [TEN_MB + 2] * 2
    assert await kept(large) == 1


async def test_tool_arguments_and_results_of_ten_megabytes_pass(large: World) -> None:
    found = await outcome(large, "calls", LONG)
    assert found.result.output == len(LONG)
    assert all(data.input_ref for data in events_of(found, StepRequested))
    assert all(data.output_ref for data in events_of(found, StepCompleted))
    assert await kept(large) == 3


async def test_an_event_of_ten_megabytes_is_told_by_reference(large: World) -> None:
    task = await large.client.submit("tells", TEN_MB)
    (told,) = [event.data async for event in task.tail() if event.type == "event.added"]
    assert told.data is None
    assert (await large.client.restore(told)).data == "x" * TEN_MB


async def test_artifacts_of_ten_megabytes_pass_and_the_newest_of_a_name_is_read(large: World) -> None:
    found = await outcome(large, "writes", TEN_MB)
    client, id = large.client, found.result.id
    assert found.result.output is True
    names = ["out/stream.bin", "text.txt", "text.txt"]
    assert [one.name for one in found.result.artifacts] == names
    assert await client.artifacts(id) == found.result.artifacts
    assert await client.read_artifact(id, "text.txt") == b"x" * TEN_MB
    assert await client.read_artifact(id, found.result.artifacts[1]) == b"old"
    assert await client.read_artifact(id, digest_of(b"old")) == b"old"
    assert b"".join([piece async for piece in client.open_artifact(id, names[0])]) == b"y" * TEN_MB
    with pytest.raises(ArtifactMissing, match="no artifact 'nope'"):
        await client.read_artifact(id, "nope")


async def test_an_input_that_is_not_kept_fails_the_task_clearly(large: World) -> None:
    ref = {"digest": digest_of(b"never kept"), "size": 10}
    await large.bus.publish(large.names.submit("echo"), msgspec.json.encode({"task_id": "t", "input_ref": ref}))
    found = await large.outcome("t")
    assert found.result.error is not None
    assert found.result.error.code == "invalid_input"
    assert str(ref["digest"]) in found.result.error.message


async def test_tool_arguments_that_are_gone_fail_the_step_clearly(world: World) -> None:
    await world.serve(app)
    task = await world.client.submit("calls", LONG)
    await eventually(lambda: world.queued("call"))
    await world.bus.remove_object(world.names.artifacts, digest_of(msgspec.json.encode({"text": LONG})))
    await world.start("tool-runner", app=app)
    result = await task.result(20)
    assert result.error is not None
    assert result.error.code == "invalid_input"
    assert "holds nothing" in result.error.message


async def test_an_output_that_is_gone_or_damaged_is_a_clear_error(large: World) -> None:
    value = "z" * (LARGE_BYTES + 1)
    task = await large.client.submit("echo", value)
    assert (await task.result()).output == value
    bucket, digest = large.names.artifacts, digest_of(msgspec.json.encode(value))
    chunks = [one async for one in large.bus.last_per_subject(f"OBJ_{bucket}", f"$O.{bucket}.C.>")]
    await large.bus.purge(f"OBJ_{bucket}", chunks[0].subject)
    with pytest.raises(ArtifactDamaged):
        await task.result()
    await large.bus.remove_object(bucket, digest)
    with pytest.raises(ArtifactMissing):
        await task.result()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ({"input": 1, "input_ref": {"digest": digest_of(b"1"), "size": 1}}, "both"),
        ({"input_ref": None}, "no `input`"),
        ({"input_ref": {"digest": "report.pdf", "size": 1}}, "$.input_ref.digest"),
        ({"input_ref": {"size": 1}}, "digest"),
        ({"input_ref": "sha256"}, "$.input_ref"),
    ],
)
async def test_a_bad_reference_is_a_rejected_task_that_says_why(large: World, command: Any, says: str) -> None:
    await large.bus.publish(large.names.submit("echo"), msgspec.json.encode({"task_id": "t"} | command))
    found = await large.outcome("t")
    assert found.types == ["task.rejected"]
    assert found.result.error is not None
    assert says in found.result.error.message


async def test_a_kept_input_that_is_no_json_is_refused_at_the_first_look(large: World) -> None:
    there = await large.bus.put_object(large.names.artifacts, b'"\xff"')
    body = {"input_ref": {"digest": there.digest, "size": 3}, "task_id": "t"}
    await large.bus.publish(large.names.submit("echo"), msgspec.json.encode(body))
    found = await large.outcome("t")
    assert found.result.error is not None
    assert (found.result.error.code, found.types.count("task.started")) == ("invalid_input", 1)
