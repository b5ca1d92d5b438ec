"""Tasks of one conversation see what was said before them, and a task that is called again sees the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mesh import Context, Mesh
from mesh.agents import history
from mesh.agents.history import LoggedPast
from mesh.agents.recipe import prompt_of
from mesh.log.driver import Driver
from mesh.log.journal import Journal
from mesh.models import Reply as Scripted
from mesh.testing.local_mesh import Serving
from schemas.message import Message
from schemas.step import StepCompleted, StepRequested
from tests.integration.test_models import MODEL, Counting, data_of
from tests.integration.world import Outcome, World

LARGE = 1_000_000


class Gate:
    """Where a handler says that it has come, and waits to be let through."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.opens = asyncio.Event()

    async def __call__(self) -> None:
        self.came.set()
        await self.opens.wait()


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def app(gate: Gate) -> Mesh:
    app = Mesh("shop")

    @app.agent
    async def echo(ctx: Context, value: str) -> str:
        return f"{value}!"

    @app.agent
    async def boom(ctx: Context, value: str) -> str:
        raise ValueError("no good")

    @app.agent
    async def waits(ctx: Context, value: str) -> str:
        await gate()
        return value

    @app.agent
    async def large(ctx: Context, size: int) -> dict[str, str]:
        return {"x": "x" * size}

    @app.agent
    async def heard(ctx: Context, max_tasks: int) -> list[str]:
        return in_short(await ctx.history(max_tasks=max_tasks))

    @app.agent
    async def remembers(ctx: Context, value: str) -> list[str]:
        before = in_short(await ctx.history())
        await gate()
        assert in_short(await ctx.history()) == before
        return before

    return app


def in_short(messages: list[Message]) -> list[str]:
    return [f"{message.role}: {message.text[:20]}" for message in messages]


async def serve(world: World, app: Mesh, folder: Path) -> Serving:
    world.give(database=f"sqlite:///{folder}/sessions.db")
    await world.start("session-store")
    return await world.serve(app)


async def said(world: World, agent: str, input: object, **options: Any) -> Outcome:
    task = await world.client.submit(agent, input, **options)
    return await world.outcome(task.id)


async def test_a_task_hears_what_was_said_in_those_before_it(
    world: World, app: Mesh, gate: Gate, tmp_path: Path
) -> None:
    await serve(world, app, tmp_path)
    running = await world.client.submit("waits", "not yet", context_id="c")
    await asyncio.wait_for(gate.came.wait(), 10)
    first = await said(world, "echo", "one", context_id="c")
    await said(world, "echo", "another conversation", context_id="d")
    await said(world, "echo", "another's", context_id="c", owner="acme/bob")
    failed = await said(world, "boom", "two", context_id="c")
    await said(world, "nobody", "three", context_id="c")
    ended = await said(world, "heard", 50, context_id="c")
    assert ended.result.output == ["user: one", "assistant: one!", "user: two"]
    (step,) = data_of(ended, StepCompleted)
    assert (step.step, step.output) == ("history", [first.result.id, failed.result.id])
    gate.opens.set()
    await world.outcome(running.id)
    after = await said(world, "heard", 50, context_id="c")
    assert after.result.output[:2] == ["user: not yet", "assistant: not yet"]
    assert after.result.output[-2:] == ["user: 50", 'assistant: ["user: one","assist']


async def test_large_values_are_heard_in_full_and_others_than_text_as_json(
    world: World, app: Mesh, tmp_path: Path
) -> None:
    @app.agent
    async def length(ctx: Context) -> list[int]:
        return [len(message.text) for message in await ctx.history()]

    await serve(world, app, tmp_path)
    await said(world, "large", LARGE, context_id="c")
    ended = await said(world, "length", None, context_id="c")
    assert ended.result.output == [len("1000000"), len('{"x":""}') + LARGE]


async def test_only_the_last_tasks_of_a_long_conversation_are_read(world: World, app: Mesh, tmp_path: Path) -> None:
    await serve(world, app, tmp_path)
    tasks = [await world.client.submit("echo", f"{number:03}", context_id="c") for number in range(120)]
    for task in tasks:
        await task.result(30)
    ended = await said(world, "heard", 110, context_id="c")
    inputs = [line.removeprefix("user: ") for line in ended.result.output if line.startswith("user")]
    assert len(inputs) == 110
    assert inputs == sorted(inputs)


async def test_a_task_without_a_context_of_its_own_asks_nobody(world: World, app: Mesh) -> None:
    await world.serve(app)
    ended = await said(world, "heard", 50)
    assert ended.result.output == []
    assert data_of(ended, StepRequested) == []


async def test_a_first_task_without_a_context_can_be_gone_on_from_by_its_id(
    world: World, app: Mesh, tmp_path: Path
) -> None:
    await serve(world, app, tmp_path)
    first = await said(world, "echo", "one")
    ended = await said(world, "heard", 50, context_id=first.result.id)
    assert ended.result.output == ["user: one", "assistant: one!"]


async def test_without_a_session_store_the_task_fails_and_says_what_to_start(
    world: World, app: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PATIENCE_S", 0.3)
    await world.serve(app)
    ended = await said(world, "heard", 50, context_id="c")
    error = ended.result.error
    assert ended.result.state == "failed"
    assert error is not None
    assert (error.code, error.retryable) == ("bus_unavailable", True)
    assert "mesh service session-store" in (error.hint or "")


async def test_a_handler_that_is_called_again_hears_the_same(
    world: World, app: Mesh, gate: Gate, tmp_path: Path
) -> None:
    executor = await serve(world, app, tmp_path)
    await said(world, "echo", "one", context_id="c")
    task = await world.client.submit("remembers", "two", context_id="c")
    await asyncio.wait_for(gate.came.wait(), 10)
    gate.came.clear()
    await executor.cut_off()
    await world.executor(app)
    await said(world, "echo", "between", context_id="c")
    await asyncio.wait_for(gate.came.wait(), 30)
    gate.opens.set()
    assert (await task.result(30)).output == ["user: one", "assistant: one!"]


async def test_a_model_agent_is_asked_with_what_was_said_and_its_log_grows_by_ids_alone(
    world: World, app: Mesh, tmp_path: Path
) -> None:
    model = Counting(lambda request: Scripted(text=f"answer {len(request.messages)}"))
    app.model_agent("clerk", model=MODEL, instructions="sell")
    app.model_agent("forgetful", model=MODEL, max_history=0)
    world.give(models=model)
    await serve(world, app, tmp_path)
    text = "hello " * 10_000
    first = await said(world, "clerk", text, context_id="c")
    second = await said(world, "clerk", "and now?", context_id="c")
    roles = [[message.role for message in request.messages] for request in model.requests]
    assert roles == [["user"], ["user", "assistant", "user"]]
    assert model.requests[1].messages[0].text == text
    (asked,) = [one.input for one in data_of(second, StepRequested) if one.kind == "model"]
    assert (asked["after"], asked["input"], "added" in asked) == ("history", True, False)
    assert len(msgspec.json.encode([entry.commit for entry in second.entries])) < 8_000
    driver = Driver(world.bus, world.names)
    journal = Journal(entry.commit for entry in second.entries)
    assert journal.accepted is not None
    past = LoggedPast(driver, journal.accepted, second.entries[0].seq)
    assert await prompt_of(journal, "model", driver.objects, past) == model.requests[1]
    await said(world, "forgetful", "who am I?", context_id="c")
    assert [message.role for message in model.requests[2].messages] == ["user"]
    assert (await past.tasks(9)) == [first.result.id]
