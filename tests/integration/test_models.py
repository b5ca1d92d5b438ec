"""Model steps and model agents end to end: a real broker, an executor, a tool runner, and scripted models."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from mesh import Context, Mesh, ModelUnavailable, Text
from mesh.log.texts import texts_in
from mesh.models import Call, Endpoint, Model, ModelDelta, ModelEvent, ModelRequest, Retries, Retrying, ScriptedModel
from mesh.models import Reply as Scripted
from mesh.models.scripted import in_turn, one_by_one
from mesh.testing import assert_invariants, run_local
from mesh.testing.local_mesh import Serving
from schemas import error as codes
from schemas.message import TOOL, Message
from schemas.step import StepFailed, StepProgress, StepRequested
from schemas.task import TaskCompleted
from tests.integration.world import Outcome, World
from tests.models.server import Exchange, ProviderServer

MODEL = "scripted:x"


class Counting:
    """A model that keeps the requests it was asked with."""

    def __init__(self, rule: Callable[[ModelRequest], Scripted]) -> None:
        self.requests: list[ModelRequest] = []
        self._model = ScriptedModel(rule)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        self.requests.append(request)
        async for event in self._model.stream(request):
            yield event


class Stalling:
    """A model that says a word and then nothing, until its reader leaves."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        try:
            yield ModelDelta(0, "text", "well")
            await asyncio.Event().wait()
        finally:
            self.closed.set()


async def serve(world: World, app: Mesh, model: Model | None = None) -> Serving:
    """A router, a tool runner if the app has tools, and the executor, which asks this model."""
    world.give(models=model)
    await world.router()
    if app.tools:
        await world.runner(app)
    return await world.executor(app)


async def outcome(world: World, agent: str, input: Any = "hi") -> Outcome:
    task = await world.client.submit(agent, input)
    ended = await world.outcome(task.id)
    assert_invariants(await world.log(task.id))
    return ended


def data_of(ended: Outcome, kind: type[Any]) -> list[Any]:
    return [one.data for entry in ended.entries for one in entry.commit.events if isinstance(one.data, kind)]


def newest(model: Counting) -> Message:
    return model.requests[-1].messages[-1]


@pytest.fixture
def app() -> Mesh:
    return Mesh("shop")


async def test_a_model_agent_makes_two_calls_side_by_side_and_answers(world: World, app: Mesh) -> None:
    both = threading.Barrier(2)

    @app.tool(idempotent=True)
    def price(sku: str) -> float:
        both.wait(10)
        return 2.5

    @app.tool(idempotent=True)
    def stock(sku: str) -> int:
        both.wait(10)
        return 7

    calls = (Call("price", {"sku": "A1"}), Call("stock", {"sku": "A1"}))
    model = Counting(in_turn(Scripted(text="Looking. ", reasoning="hm", calls=calls), Scripted(text="2.5 EUR, 7 left")))
    app.model_agent("clerk", model=MODEL, instructions="sell", tools=[price, stock])
    await serve(world, app, model)
    ended = await outcome(world, "clerk", "A1?")
    assert ended.result.output == "2.5 EUR, 7 left"
    results = newest(model)
    assert (results.role, [part.content for part in results.parts]) == (TOOL, [2.5, 7])
    assert model.requests[0].tools[0].schema["properties"]["sku"] == {"type": "string"}
    keys = [step.step for step in data_of(ended, StepRequested)]
    assert keys == ["model", "model/call_1_1/price", "model/call_1_2/stock", "model#2"]
    (completed,) = data_of(ended, TaskCompleted)
    assert (completed.usage.requests, completed.usage.cost.amount) == (2, "0")


async def test_the_text_of_a_model_step_is_told_once_and_stands_in_the_log(world: World, app: Mesh) -> None:
    model = Counting(in_turn(Scripted(text="one two three", reasoning="so so", pause_s=0.01)))
    app.model_agent("clerk", model=MODEL)
    await serve(world, app, model)
    task = await world.client.submit("clerk", "go")
    told = [event.data async for event in task.tail() if isinstance(event.data, Text)]
    assert "".join(text.text for text in told if text.kind == "text") == "one two three"
    assert "".join(text.text for text in told if text.kind == "reasoning") in ("", "so so")
    assert {text.step for text in told} == {"model"}
    late = [event.data async for event in world.client.task(task.id).tail() if isinstance(event.data, Text)]
    assert [(text.text, text.step, text.part) for text in late] == [("one two three", "model", 1)]
    (added,) = [
        text for entry in await world.entries(task.id) for one in entry.commit.events for text in texts_in(one.data)
    ]
    assert sum(length for _, length in added.chunks) == len(added.text)


async def test_text_comes_while_the_model_still_streams(world: World, app: Mesh) -> None:
    model = Stalling()
    app.model_agent("clerk", model=MODEL)
    await serve(world, app, model)
    task = await world.client.submit("clerk", "go")
    async for event in task.tail():
        if isinstance(event.data, Text):
            assert (event.data.text, event.data.step) == ("well", "model")
            break
    assert not model.closed.is_set()
    await world.client.cancel(task.id)
    await asyncio.wait_for(model.closed.wait(), 10)
    assert (await world.outcome(task.id)).result.state == "canceled"


async def test_an_answer_in_the_log_is_never_asked_for_again(world: World, app: Mesh) -> None:
    gate = asyncio.Event()
    waiting = asyncio.Event()
    model = Counting(in_turn(Scripted(text="first"), Scripted(text="second")))

    @app.agent
    async def writer(ctx: Context, topic: str) -> str:
        first = await ctx.model(MODEL, topic)
        waiting.set()
        await gate.wait()
        second = await ctx.model(MODEL, [*first.messages, *first.messages])
        return f"{first.text} {second.text}"

    executor = await serve(world, app, model)
    task = await world.client.submit("writer", "otters")
    await asyncio.wait_for(waiting.wait(), 10)
    waiting.clear()
    await world.executor(app)
    await executor.stop()
    await asyncio.wait_for(waiting.wait(), 10)
    assert len(model.requests) == 1
    gate.set()
    assert (await world.outcome(task.id)).result.output == "first first"
    assert len(model.requests) == 2


@dataclass
class Order:
    sku: str
    count: int


async def test_an_output_that_does_not_fit_is_sent_back(world: World, app: Mesh) -> None:
    good = '{"sku": "A1", "count": 2}'
    replies = (Scripted(text="two A1"), Scripted(text='{"sku": "A1"}'), Scripted(text=good))
    model = Counting(in_turn(*replies))
    app.model_agent("clerk", model=MODEL, output_type=Order)
    await serve(world, app, model)
    ended = await outcome(world, "clerk")
    assert ended.result.output == {"sku": "A1", "count": 2}
    assert [step.step for step in data_of(ended, StepRequested)] == ["model", "model#2", "model#3"]
    assert "missing required field `count`" in newest(model).text
    (completed,) = data_of(ended, TaskCompleted)
    assert completed.usage.requests == 3


async def test_an_output_that_never_fits_fails_after_bounded_corrections(world: World, app: Mesh) -> None:
    model = Counting(in_turn(Scripted(text="no")))
    app.model_agent("clerk", model=MODEL, output_type=Order)
    await serve(world, app, model)
    ended = await outcome(world, "clerk")
    assert ended.result.error is not None
    assert ended.result.error.code == codes.OUTPUT_INVALID
    assert len(model.requests) == 4


@pytest.mark.parametrize(("limits", "made"), [({"max_steps": 2}, 2), ({"max_steps": 1}, 1), ({"max_tokens": 1}, 1)])
async def test_corrections_count_as_steps_and_tokens_of_the_agent(
    world: World, app: Mesh, limits: Any, made: int
) -> None:
    model = Counting(in_turn(Scripted(text="no")))
    app.model_agent("clerk", model=MODEL, output_type=Order, **limits)
    await serve(world, app, model)
    ended = await outcome(world, "clerk")
    assert ended.result.error is not None
    assert (ended.result.error.code, len(model.requests)) == (codes.OUTPUT_INVALID, made)


async def test_a_model_is_told_of_what_it_called_wrongly(world: World, app: Mesh) -> None:
    @app.tool(idempotent=True)
    def price(sku: str) -> float:
        raise ValueError(f"no price of {sku}")

    calls = (
        Call("prize", {}), Call("price", "{not json"), Call("price", {"sku": 5}), Call("price", {"sku": "B"}),
    )  # fmt: skip
    model = Counting(in_turn(Scripted(calls=calls), Scripted(text="sorry")))
    app.model_agent("clerk", model=MODEL, tools=[price])
    await serve(world, app, model)
    assert (await outcome(world, "clerk")).result.output == "sorry"
    told = newest(model).parts
    assert all(part.failed for part in told)
    for part, says in zip(told, ("the tools are: price", "no JSON", "$.sku", "no price of B"), strict=True):
        assert says in part.content


@pytest.mark.parametrize(
    ("limits", "says", "made"),
    [
        ({"max_steps": 3}, "3 model steps", 2),
        ({"max_tool_calls": 3}, "4 tool calls", 3),
        ({"max_tokens": 1}, "tokens", 0),
    ],
)
async def test_a_model_that_never_answers_is_stopped(
    world: World, app: Mesh, limits: Any, says: str, made: int
) -> None:
    done: list[int] = []

    @app.tool(idempotent=True)
    def again() -> None:
        done.append(1)

    calls = (Call("again"),) if "max_steps" in limits else (Call("again"), Call("again"))
    model = Counting(in_turn(Scripted(calls=calls)))
    app.model_agent("clerk", model=MODEL, tools=[again], **limits)
    await serve(world, app, model)
    ended = await outcome(world, "clerk")
    assert ended.result.error is not None
    assert (ended.result.error.code, len(done)) == (codes.LIMIT_EXCEEDED, made)
    assert says in ended.result.error.message
    assert ended.result.usage is not None  # what a failed task used was paid for all the same
    assert ended.result.usage.requests == len(model.requests)


async def test_a_missing_key_fails_the_task_and_names_the_variable(
    world: World, app: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    app.model_agent("clerk", model="openai:gpt-5-mini")
    await serve(world, app)
    ended = await outcome(world, "clerk")
    assert ended.result.error is not None
    assert ended.result.error.code == codes.MODEL_NOT_CONFIGURED
    assert "OPENAI_API_KEY" in str(ended.result.error)
    (failed,) = data_of(ended, StepFailed)
    assert failed.error.code == codes.MODEL_NOT_CONFIGURED


async def test_a_retry_is_seen_and_the_text_of_the_failed_attempt_does_not_count(world: World, app: Mesh) -> None:
    async def at_once(wait_s: float) -> None:
        pass

    cut = Scripted(text="wrong start", error=ModelUnavailable("the stream was cut"))
    model = ScriptedModel(one_by_one(cut, Scripted(text="right")))
    app.model_agent("clerk", model=MODEL)
    await serve(world, app, Retrying(model, Retries(), random=Random(1), pause=at_once))
    ended = await outcome(world, "clerk")
    assert (ended.result.output, ended.text) == ("right", "right")
    (progress,) = data_of(ended, StepProgress)
    assert (progress.step, "the stream was cut" in progress.message) == ("model", True)


async def test_a_model_that_stays_away_fails_the_step(world: World, app: Mesh) -> None:
    away = Scripted(text="half an ans", error=ModelUnavailable("503"))
    app.model_agent("clerk", model=MODEL)
    await serve(world, app, ScriptedModel(in_turn(away)))
    ended = await outcome(world, "clerk")
    assert ended.result.error is not None
    assert (ended.result.error.code, ended.text) == (codes.MODEL_UNAVAILABLE, "")


async def test_a_branch_that_takes_too_long_ends_as_tool_timeout(world: World, app: Mesh) -> None:
    @app.agent
    async def hurry(ctx: Context, text: str) -> str:
        reply = await ctx.branch("left", timeout_s=0.05).model(MODEL, text)
        return reply.text

    model = Stalling()
    await serve(world, app, model)
    ended = await outcome(world, "hurry")
    (failed,) = data_of(ended, StepFailed)
    assert (failed.step, failed.error.code) == ("left/model", codes.TOOL_TIMEOUT)
    assert model.closed.is_set()


async def test_an_app_brings_its_scripted_models_along(world: World, app: Mesh) -> None:
    app.model_agent("clerk", model=app.scripted_model("x", in_turn(Scripted(text="hi"))))
    await serve(world, app)
    assert (await outcome(world, "clerk")).result.output == "hi"


@pytest.mark.parametrize("on_unknown", ["fail", "tell_model"])
async def test_a_call_whose_runner_died_is_never_repeated(world: World, app: Mesh, on_unknown: Any) -> None:
    begun, times = asyncio.Event(), [0]
    world.set(ack_wait_s=0.5)

    @app.tool(on_unknown=on_unknown)
    async def charge(amount: int) -> str:
        times[0] += 1
        begun.set()
        await asyncio.Event().wait()
        return "charged"

    model = Counting(in_turn(Scripted(calls=(Call("charge", {"amount": 5}),)), Scripted(text="ask the bank")))
    app.model_agent("clerk", model=MODEL, tools=[charge])
    world.give(models=model)
    await world.router()
    runner = await world.runner(app)
    await world.executor(app)
    task = await world.client.submit("clerk", "pay")
    await asyncio.wait_for(begun.wait(), 10)
    await runner.cut_off()
    await world.runner(app)
    ended = await world.outcome(task.id)
    assert times == [1]
    if on_unknown == "fail":
        assert ended.result.error is not None
        assert ended.result.error.code == codes.TOOL_OUTCOME_UNKNOWN
    else:
        assert ended.result.output == "ask the bank"
        assert "Nobody knows" in newest(model).parts[0].content


async def test_a_cancel_closes_the_connection_to_the_provider(
    world: World, app: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def stall(exchange: Exchange) -> None:
        await exchange.frames([])
        begun.set()
        await exchange.closed.wait()

    monkeypatch.setenv("LOCAL_KEY", "k")
    async with ProviderServer() as server:
        server.answers.append(stall)
        endpoint = Endpoint(base_url=server.url, key_variable="LOCAL_KEY")
        app.model_agent("clerk", model="openai-chat:any", endpoint=endpoint)
        await serve(world, app)
        task = await world.client.submit("clerk", "go")
        await asyncio.wait_for(begun.wait(), 30)
        await world.client.cancel(task.id)
        await asyncio.wait_for(server.exchanges[0].closed.wait(), 10)
        assert (await world.outcome(task.id)).result.state == "canceled"


async def test_a_handler_with_a_model_runs_without_a_broker_and_replays(app: Mesh) -> None:
    @app.agent
    async def writer(ctx: Context, topic: str) -> str:
        return (await ctx.model("any:thing", topic, instructions="write")).text

    model = Counting(in_turn(Scripted(text="otters are fine")))
    first = await run_local(writer, "otters", models=model)
    assert (first.output, first.performed) == ("otters are fine", ("model",))
    assert_invariants(first.log)
    again = await run_local(writer, replay=first.log, models=model)
    assert (again.output, again.performed, len(model.requests)) == ("otters are fine", (), 1)
    assert (await run_local(writer, "otters")).state == "failed"
