"""What a log holds of a long conversation: each step what it adds, and enough to put every prompt together again."""

from __future__ import annotations

import asyncio
from statistics import median
from typing import Any

import msgspec
import pytest

from mesh import Context, Mesh, Text
from mesh.agents.recipe import prompt_of
from mesh.log.journal import Journal
from mesh.log.objects import MeshObjects
from mesh.models import Call, ScriptedModel
from mesh.models import Reply as Scripted
from mesh.models.scripted import in_turn
from mesh.testing import assert_invariants
from schemas import error as codes
from schemas.envelope import MAX_COMMIT_BYTES
from schemas.message import user_message
from schemas.object import digest_of
from schemas.step import StepRequested
from schemas.task import TaskStarted, TaskSuspended
from tests.integration.test_models import MODEL, Counting, data_of, outcome, serve
from tests.integration.world import World

TEN_MB = 10 * 1024 * 1024
CALLS = 200


@pytest.fixture
def app() -> Mesh:
    return Mesh("shop")


async def test_the_log_grows_by_the_same_for_each_of_200_calls(world: World, app: Mesh) -> None:
    @app.tool(idempotent=True)
    def price(sku: str) -> float:
        return 2.5

    def rule(request: Any) -> Scripted:
        turn = sum(message.role == "assistant" for message in request.messages)
        calls = (Call("price", {"sku": "A1"}),) if turn < CALLS - 1 else ()
        return Scripted(text="One more, please.", calls=calls)

    context, instructions = "large " * 10_000, "kind " * 2_000
    app.model_agent(
        "clerk", model=MODEL, instructions=instructions, tools=[price], max_steps=CALLS, max_tool_calls=CALLS
    )  # fmt: skip
    await serve(world, app, ScriptedModel(rule))
    task = await world.client.submit("clerk", context)
    await world.outcome(task.id)
    stored = await world.bus.read(world.names.tasks, world.names.task(task.id), first=1)
    turns, sizes = [0], [len(message.data) for message in stored]
    for message, size in zip(stored, sizes, strict=True):
        # A tool that is late suspends its task: that is of the tool, and not of the conversation.
        turns[-1] += size if b'"type":"step.' in message.data else 0
        if b'"streamed"' in message.data:
            turns.append(0)
    assert len(turns) == CALLS + 1
    middle = turns[1 : CALLS - 1]
    early, late = median(middle[:50]), median(middle[-50:])
    assert late - early <= 60, "numbers and heads grow by a digit or two"
    assert max(middle) < 2 * min(middle)
    assert max(middle) < 8_000
    assert sum(sizes) < len(context) + CALLS * 8_000


@pytest.mark.parametrize("pieces", [1, 2_000])
async def test_a_large_answer_passes_and_is_told_as_the_log_has_it(world: World, app: Mesh, pieces: int) -> None:
    text = "lörem!  " * (TEN_MB // 9 // pieces)
    answer = " ".join([text.replace(" ", "·")] * pieces)
    app.model_agent("clerk", model=MODEL)
    await serve(world, app, ScriptedModel(in_turn(Scripted(text=answer))))
    task = await world.client.submit("clerk", "go")
    live = [event async for event in task.tail()]
    late = [event async for event in world.client.task(task.id).tail()]
    for events in (live, late):
        assert "".join(event.data.text for event in events if isinstance(event.data, Text)) == answer
    assert (await task.result()).output == answer
    log = await world.log(task.id)
    assert_invariants(log)
    assert max(len(msgspec.json.encode(entry.commit)) for entry in log) <= MAX_COMMIT_BYTES


async def test_a_conversation_goes_on_from_a_large_answer_and_after_a_crash(world: World, app: Mesh) -> None:
    large, gate, waiting = "x" * TEN_MB, asyncio.Event(), asyncio.Event()
    model = Counting(in_turn(Scripted(text=large), Scripted(text="done")))

    @app.agent
    async def writer(ctx: Context, topic: str) -> str:
        first = await ctx.model(MODEL, topic)
        waiting.set()
        await gate.wait()
        return (await ctx.model(MODEL, [user_message(topic), *first.messages, user_message("and?")])).text

    executor = await serve(world, app, model)
    task = await world.client.submit("writer", "otters")
    await asyncio.wait_for(waiting.wait(), 30)
    waiting.clear()
    await world.executor(app)
    await executor.stop()
    await asyncio.wait_for(waiting.wait(), 30)
    gate.set()
    assert (await task.result(timeout_s=30)).output == "done"
    assert len(model.requests) == 2
    journal = Journal(entry.commit for entry in await world.log(task.id))
    assert await prompt_of(journal, "model#2", MeshObjects(world.bus, world.names)) == model.requests[1]


async def test_every_prompt_can_be_put_together_again_from_the_log(world: World, app: Mesh) -> None:
    @app.tool(idempotent=True)
    def price(sku: str) -> dict[str, float]:
        if sku == "B":
            raise ValueError("no price of B")
        return {"eur": 2.5, "bar": 1.0}

    @app.tool(idempotent=True)
    def long(count: int) -> str:
        return "y" * count

    calls = (Call("price", {"sku": "A"}), Call("price", {"sku": "B"}), Call("nothing"), Call("long", {"count": TEN_MB}))
    fits = Scripted(text='{"value": 5}')
    replies = (Scripted(text="Looking.", reasoning="hm", calls=calls), Scripted(text="five"), fits)
    model = Counting(in_turn(*replies))
    app.model_agent("clerk", model=MODEL, instructions="sell", tools=[price, long], output_type=int)
    await serve(world, app, model)
    ended = await outcome(world, "clerk", "A, B?")
    assert ended.result.output == 5
    journal = Journal(entry.commit for entry in ended.entries)
    objects = MeshObjects(world.bus, world.names)
    steps = [one.step for one in data_of(ended, StepRequested) if one.kind == "model"]
    assert [await prompt_of(journal, step, objects) for step in steps] == model.requests
    requested = {one.step: one.input for one in data_of(ended, StepRequested)}
    assert (requested["model"]["input"], "added" in requested["model"]) == (True, False)
    assert requested["model#2"]["after"] == "model"
    assert len(msgspec.json.encode(requested["model#2"])) < 2_000, "what tools gave stands with their steps"
    assert requested["model#3"]["added"][0]["parts"][0]["text"].startswith("The answer does not fit")


async def test_the_definition_of_an_agent_is_kept_once_and_its_task_and_steps_name_it(world: World, app: Mesh) -> None:
    app.model_agent("clerk", model=MODEL, instructions="be kind")
    app.model_agent("other", model=MODEL, instructions="be brief")
    await serve(world, app, ScriptedModel(in_turn(Scripted(text="a"))))
    ended = await outcome(world, "clerk")
    (started,) = data_of(ended, TaskStarted)
    kept = await MeshObjects(world.bus, world.names).read(started.definition)
    assert started.definition == digest_of(kept)
    assert msgspec.json.decode(kept)["instructions"] == "be kind"
    (request,) = data_of(ended, StepRequested)
    assert request.input["definition"] == started.definition


@pytest.mark.parametrize(("changed", "says"), [("instructions", "definition"), ("prompt", "messages")])
async def test_a_task_whose_prompt_is_another_one_now_is_suspended_and_says_what_differs(
    world: World, app: Mesh, changed: str, says: str
) -> None:
    waiting = asyncio.Event()

    def served(instructions: str, prompt: str) -> Mesh:
        one = Mesh("shop")

        @one.agent
        async def writer(ctx: Context, topic: str) -> str:
            reply = await ctx.model(MODEL, f"{prompt} {topic}", instructions=instructions)
            waiting.set()
            await asyncio.Event().wait()
            return reply.text

        return one

    old, new = {"instructions": "be kind", "prompt": "on"}, {"instructions": "be kind", "prompt": "on"}
    new[changed] = "else"
    executor = await serve(world, served(**old), ScriptedModel(in_turn(Scripted(text="a"))))
    task = await world.client.submit("writer", "otters")
    await asyncio.wait_for(waiting.wait(), 10)
    await executor.stop()
    model = Counting(in_turn(Scripted(text="b")))
    world.give(models=model)
    await world.executor(served(**new), version="2")
    await world.reaches(task.id, "suspended")
    suspended = (await world.log(task.id))[-1].commit.events[-1].data
    assert isinstance(suspended, TaskSuspended)
    assert suspended.error is not None
    assert (suspended.reason, suspended.error.code) == (codes.NONDETERMINISTIC, codes.NONDETERMINISTIC)
    assert says in suspended.error.message
    assert model.requests == [], "what is in the log is not asked for again"
