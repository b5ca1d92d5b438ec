"""What providers do, right and wrong, seen from outside: the real provider code in an executor, and its log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from mesh import Mesh, Text
from mesh.models import Endpoint, Models, Retrying
from mesh.testing import assert_invariants, eventually
from schemas import error as codes
from schemas.step import StepCompleted, StepFailed, StepProgress, StepRequested
from schemas.task import TaskCompleted
from tests.integration.test_models import data_of, outcome
from tests.integration.world import Outcome, World
from tests.models.server import Answer, ProviderServer, breaks, refuses, stalls, streams
from tests.models.test_faults import error_body
from tests.models.wires import USAGE, Chat, Piece, Responses, Thought, ToolCall, Wire
from tests.models.wires import Text as Said


@dataclass
class Shop:
    """A mesh whose one agent asks a provider's server; `waits` are the pauses that its retries did not make."""

    world: World
    server: ProviderServer
    wire: Wire
    waits: list[float] = field(default_factory=list)
    app: Mesh = field(default_factory=lambda: Mesh("shop"))

    def answers(self, *answers: Answer) -> None:
        self.server.answers.extend(answers)

    def whole(self, *parts: Piece, reason: str = "stop", usage: bool = True) -> Answer:
        return streams(self.wire.parts(*parts) + self.wire.end(reason, usage=usage))

    async def serve(self, **given: Any) -> None:
        self.app.model_agent("clerk", model=f"{self.wire.prefix}:gpt-5-mini", **given)
        await self.world.router()
        if self.app.tools:
            await self.world.runner(self.app)
        await self.world.executor(self.app)

    async def outcome(self) -> Outcome:
        return await outcome(self.world, "clerk")

    async def error(self) -> Any:
        """The error of a task that failed because its model did, which the log says as well."""
        ended = await self.outcome()
        assert ended.result.error is not None
        assert data_of(ended, StepFailed)[-1].error.code == ended.result.error.code
        assert ended.text == ""
        return ended.result.error


@pytest.fixture(params=[Chat(), Responses()], ids=["chat", "responses"])
async def shop(request: pytest.FixtureRequest, world: World) -> AsyncIterator[Shop]:
    async with ProviderServer() as server:
        models = Models(environ={"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-test"})
        shop = Shop(world, server, request.param)

        async def at_once(wait_s: float) -> None:
            shop.waits.append(wait_s)

        world.give(models=Retrying(models, random=Random(1), pause=at_once))
        try:
            yield shop
        finally:
            await models.aclose()


@pytest.mark.parametrize("where", ["for all", "for the agent"])
async def test_a_server_of_ones_own_answers_for_all_agents_or_for_one(
    shop: Shop, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.world.give(models=None)
    given: dict[str, Any] = {}
    if where == "for all":
        monkeypatch.setenv("OPENAI_BASE_URL", shop.server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    else:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        monkeypatch.setenv("LAN_KEY", "sk-test")
        given["endpoint"] = Endpoint(base_url=shop.server.url, key_variable="LAN_KEY")
    shop.answers(shop.whole(Thought(["hm ", "so"]), Said(["Hel", "lo ", "wörld"])))
    await shop.serve(**given)
    ended = await shop.outcome()
    assert (ended.result.output, ended.text) == ("Hello wörld", "Hello wörld")
    assert (shop.server.exchanges[0].path, len(shop.server.exchanges)) == (shop.wire.path, 1)
    assert shop.server.exchanges[0].headers["authorization"] == "Bearer sk-test"
    (completed,) = data_of(ended, StepCompleted)
    assert [part["kind"] for part in completed.output["parts"]] == ["reasoning", "text"]


async def test_parallel_calls_are_made_and_usage_and_cost_are_summed(shop: Shop) -> None:
    @shop.app.tool(idempotent=True)
    def price(sku: str) -> float:
        """Price of one item."""
        return {"A1": 2.5, "B2": 3.5}[sku]

    calls = [ToolCall("call_a", "price", ['{"sku":', '"A1"}']), ToolCall("call_b", "price", ['{"sku"', ':"B2"}'])]
    shop.answers(shop.whole(Said(["looking "]), *calls, reason="tool_calls"), shop.whole(Said(["6 EUR"])))
    await shop.serve(tools=[price])
    ended = await shop.outcome()
    assert (ended.result.output, ended.text) == ("6 EUR", "looking 6 EUR")
    keys = [one.step for one in data_of(ended, StepRequested)]
    assert keys == ["model", "model/call_a/price", "model/call_b/price", "model#2"]
    assert all(result in str(shop.server.bodies[1]) for result in ("2.5", "3.5", "call_a", "call_b"))
    usages = [one.usage for one in data_of(ended, StepCompleted) if one.usage is not None]
    (completed,) = data_of(ended, TaskCompleted)
    total = completed.usage
    assert [(usage.input_tokens, usage.requests) for usage in usages] == [(USAGE["input"], 1)] * 2
    assert (total.input_tokens, total.output_tokens, total.requests) == (2 * USAGE["input"], 2 * USAGE["output"], 2)
    assert float(total.cost.amount) == pytest.approx(sum(float(usage.cost.amount) for usage in usages))


async def test_usage_and_cost_that_are_not_told_are_unknown_and_not_zero(shop: Shop) -> None:
    shop.answers(shop.whole(Said(["hi"]), usage=False))
    await shop.serve()
    ended = await shop.outcome()
    (step,), (completed,) = data_of(ended, StepCompleted), data_of(ended, TaskCompleted)
    assert step.usage is None
    assert (completed.usage.requests, completed.usage.cost) == (1, None)


async def test_a_refused_key_ends_the_task_and_names_the_variable(shop: Shop) -> None:
    shop.answers(refuses(401, error_body("Incorrect API key", "invalid_api_key")))
    await shop.serve()
    error = await shop.error()
    assert (error.code, error.details) == (codes.MODEL_REJECTED, {"reason": "authentication"})
    assert "OPENAI_API_KEY" in (error.hint or "")
    assert len(shop.server.exchanges) == 1


async def test_trouble_is_tried_again_and_each_retry_is_in_the_log(shop: Shop) -> None:
    shop.answers(
        refuses(429, error_body("slow down", "rate_limit_exceeded"), {"retry-after": "7"}),
        refuses(500, error_body("oops", "server_error")),
        breaks(shop.wire.parts(Said(["half of ", "the"]))),
        streams(shop.wire.parts(Said(["another half"]))),
        shop.whole(Said(["the whole"])),
    )
    await shop.serve()
    ended = await shop.outcome()
    assert (ended.result.output, ended.text) == ("the whole", "the whole")
    told = [one.message for one in data_of(ended, StepProgress)]
    assert len(told) == len(shop.waits) == 4
    assert shop.waits[0] >= 7
    for message, says in zip(told, ("slow down", "500", "broke", "cut"), strict=True):
        assert says in message or "cut" in message
    assert (data_of(ended, StepCompleted)[0].attempt, len(shop.server.exchanges)) == (5, 5)


async def test_trouble_that_stays_ends_the_task(shop: Shop) -> None:
    shop.answers(*[refuses(503, error_body("overloaded", "overloaded"))] * 5)
    await shop.serve()
    error = await shop.error()
    assert (error.code, error.retryable) == (codes.MODEL_UNAVAILABLE, True)
    assert "5 attempts" in error.message


async def test_a_stream_that_stalls_is_given_up_and_asked_for_again(shop: Shop) -> None:
    shop.answers(stalls(shop.wire.parts(Said(["well…"]))), shop.whole(Said(["fine"])))
    await shop.serve(settings={"timeout": 0.2})
    ended = await shop.outcome()
    assert (ended.result.output, ended.text) == ("fine", "fine")
    assert "silent" in data_of(ended, StepProgress)[0].message
    await asyncio.wait_for(shop.server.exchanges[0].closed.wait(), 10)


async def test_arguments_that_are_no_json_are_told_to_the_model(shop: Shop) -> None:
    @shop.app.tool(idempotent=True)
    def price(sku: str) -> float:
        return 2.5

    shop.answers(
        shop.whole(ToolCall("call_a", "price", ['{"sku": ', "A1"]), reason="tool_calls"), shop.whole(Said(["sorry"]))
    )
    await shop.serve(tools=[price])
    ended = await shop.outcome()
    assert ended.result.output == "sorry"
    assert [one.step for one in data_of(ended, StepRequested)] == ["model", "model#2"]
    assert "no JSON" in shop.wire.last_tool_output(shop.server.bodies[1])


async def test_an_answer_that_fits_at_the_third_try_is_the_output(shop: Shop) -> None:
    @dataclass
    class Order:
        sku: str
        count: int

    tries = ["two of A1", '{"sku": "A1"}', '{"sku": "A1", "count": 2}']
    shop.answers(*(shop.whole(Said([text])) for text in tries))
    await shop.serve(output_type=Order)
    ended = await shop.outcome()
    assert ended.result.output == {"sku": "A1", "count": 2}
    corrections = [one.input["added"][-1]["parts"][0]["text"] for one in data_of(ended, StepRequested)[1:]]
    assert "malformed" in corrections[0]
    assert "missing required field `count`" in corrections[1]
    assert "count" in str(shop.server.bodies[2])


async def test_a_cancel_in_mid_stream_closes_the_connection(shop: Shop) -> None:
    shop.answers(stalls(shop.wire.parts(Said(["well ", "…"]))))
    await shop.serve()
    task = await shop.world.client.submit("clerk", "go")
    told: list[str] = []

    async def read() -> None:
        async for event in task.tail():
            told.extend([event.data.text] if isinstance(event.data, Text) else [])

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        await eventually(lambda: told)
        await shop.world.client.cancel(task.id)
        await asyncio.wait_for(shop.server.exchanges[0].closed.wait(), 10)
    ended = await shop.world.outcome(task.id)
    assert (ended.result.state, ended.text) == ("canceled", "")
    assert_invariants(await shop.world.log(task.id))


@pytest.mark.parametrize(
    "garbage",
    ["data: {not json\n\n", "data: []\n\n", "data: 5\n\n", "\x00\x01\n\n", 'data: {"a": ' + "[" * 5000 + "\n\n"],
    ids=["no json", "a list", "a number", "bytes", "nesting"],
)
async def test_garbage_is_never_an_answer_and_never_a_crash(shop: Shop, garbage: str) -> None:
    half = shop.wire.parts(Said(["well"]))
    shop.answers(streams([*half, garbage]), streams([garbage]), shop.whole(Said(["fine"])))
    await shop.serve()
    ended = await shop.outcome()
    assert (ended.result.output, ended.text) == ("fine", "fine")


async def test_half_characters_of_a_provider_do_no_harm(shop: Shop) -> None:
    frames = shop.wire.parts(Said(["a", "HIGH", "LOW", "b", "HIGH", "c", "LOW", "d", "HIGH"]))
    frames = [frame.replace("HIGH", "\\ud83e").replace("LOW", "\\udda6") for frame in frames]
    failed = refuses(500, '{"error": {"message": "half \\ud83e"}}', {"content-type": "application/json"})
    shop.answers(failed, streams(frames + shop.wire.end()))
    await shop.serve()
    ended = await shop.outcome()
    assert ended.result.output == ended.text == "a🦦b\ufffdc\ufffdd\ufffd"


async def test_calls_with_the_same_id_or_none_are_told_apart(shop: Shop) -> None:
    @shop.app.tool(idempotent=True)
    def price(sku: str) -> str:
        return f"{sku} costs 1"

    calls = [ToolCall(call, "price", [f'{{"sku": "{sku}"}}']) for call, sku in (("c", "A"), ("c", "B"), ("", "C"))]
    shop.answers(shop.whole(*calls, reason="tool_calls"), shop.whole(Said(["done"])))
    await shop.serve(tools=[price])
    ended = await shop.outcome()
    assert ended.result.output == "done"
    steps = [one for one in data_of(ended, StepRequested) if one.kind == "tool"]
    assert len({one.step for one in steps}) == 3
    assert [one.input["sku"] for one in steps] == ["A", "B", "C"]
    assert all(f"{sku} costs 1" in str(shop.server.bodies[1]) for sku in "ABC")
