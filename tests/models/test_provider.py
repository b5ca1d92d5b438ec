"""The real provider code against a server that speaks both streaming protocols."""

from __future__ import annotations

import pytest

from mesh.models import ModelAnswer, ToolSpec
from schemas.message import REASONING, TEXT, TOOL_CALL, Message, Part, tool_message, tool_result, user_message
from schemas.task import Money, Usage
from tests.models.asking import HELLO, Asking, deltas_of, joined, message_of
from tests.models.server import streams
from tests.models.wires import Text, Thought, ToolCall

PRICE = ToolSpec(
    name="price",
    description="Price of one item.",
    schema={"type": "object", "properties": {"sku": {"type": "string"}}, "required": ["sku"]},
)


async def test_text_comes_in_pieces_that_add_up_to_the_answer(asking: Asking) -> None:
    asking.server.answers.append(streams(asking.wire.parts(Text(["Hel", "lo ", "wörld"])) + asking.wire.end()))
    events = await asking.events()
    message = message_of(events)
    assert [delta.text for delta in deltas_of(events)] == ["Hel", "lo ", "wörld"]
    assert message.text == joined(events, 0) == "Hello wörld"
    assert isinstance(events[-1], ModelAnswer)
    assert (message.role, message.finish_reason, message.model) == ("assistant", "stop", "gpt-5-mini")
    assert message.api == asking.wire.api
    assert asking.server.exchanges[0].path == asking.wire.path
    assert asking.server.exchanges[0].headers["authorization"] == "Bearer sk-test"


async def test_usage_and_cost_are_those_of_the_request(asking: Asking) -> None:
    asking.server.answers.append(streams(asking.wire.parts(Text(["hi"])) + asking.wire.end()))
    message = await asking.message()
    assert message.usage is not None
    assert message.usage == Usage(
        input_tokens=11, output_tokens=7, cache_read_tokens=3, reasoning_tokens=2, requests=1, cost=message.usage.cost
    )
    assert isinstance(message.usage.cost, Money)
    assert float(message.usage.cost.amount) > 0
    assert "e" not in message.usage.cost.amount.lower()
    assert message.prices.startswith("genai-prices ")


async def test_usage_that_is_not_told_is_unknown_and_not_zero(asking: Asking) -> None:
    asking.server.answers.append(streams(asking.wire.parts(Text(["hi"])) + asking.wire.end(usage=False)))
    assert (await asking.message()).usage is None


async def test_reasoning_is_a_part_of_its_own(asking: Asking) -> None:
    frames = asking.wire.parts(Thought(["let me ", "see"], sealed="sealed"), Text(["42"]))
    asking.server.answers.append(streams(frames + asking.wire.end()))
    events = await asking.events()
    message = message_of(events)
    assert [(part.kind, part.text) for part in message.parts] == [(REASONING, "let me see"), (TEXT, "42")]
    assert [delta.kind for delta in deltas_of(events)] == ["reasoning", "reasoning", "text"]
    assert joined(events, 0) == "let me see"


async def test_reasoning_between_tags_is_reasoning_too(asking: Asking) -> None:
    if asking.wire.prefix == "openai":
        pytest.skip("only models behind chat completions write their thoughts into the text")
    pieces = ["<think>", "let me ", "see", "</think>", "4", "2"]
    asking.server.answers.append(streams(asking.wire.parts(Text(pieces)) + asking.wire.end()))
    events = await asking.events()
    message = message_of(events)
    assert [(part.kind, part.text) for part in message.parts] == [(REASONING, "let me see"), (TEXT, "42")]
    assert [joined(events, place) for place in (0, 1)] == ["let me see", "42"]


async def test_parallel_calls_come_with_their_arguments_in_pieces(asking: Asking) -> None:
    calls = [ToolCall("call_a", "price", ['{"sku":', '"A1"}']), ToolCall("call_b", "price", ['{"sku"', ':"B2"}'])]
    frames = asking.wire.parts(Text(["looking"]), *calls) + asking.wire.end("tool_calls")
    asking.server.answers.append(streams(frames))
    events = await asking.events(asking.request(tools=(PRICE,)))
    message = message_of(events)
    assert message.finish_reason == "tool_call"
    assert [(part.call, part.tool, part.arguments) for part in message.calls] == [
        ("call_a", "price", '{"sku":"A1"}'),
        ("call_b", "price", '{"sku":"B2"}'),
    ]
    for place, part in enumerate(message.parts):
        of_part = [delta for delta in deltas_of(events) if delta.part == place]
        assert {delta.call for delta in of_part} == {part.call}
        assert joined(events, place) == (part.arguments if part.kind == TOOL_CALL else part.text)


async def test_a_conversation_goes_back_as_it_came(asking: Asking) -> None:
    frames = asking.wire.parts(Thought(["hm"], sealed="sealed"), ToolCall("call_a", "price", ['{"sku":"A1"}']))
    asking.server.answers.append(streams(frames + asking.wire.end("tool_calls")))
    asking.server.answers.append(streams(asking.wire.parts(Text(["2 EUR"])) + asking.wire.end()))
    first = await asking.message(asking.request(tools=(PRICE,)))
    results = tool_message(tool_result(first.calls[0], {"price": 2}))
    await asking.message(asking.request((*HELLO, first, results), tools=(PRICE,), instructions="Be brief."))
    sent = asking.server.bodies[1]
    assert '{"price":2}' in asking.wire.last_tool_output(sent)
    text = str(sent)
    assert "call_a" in text
    assert "Be brief." in text
    assert "hm" in text, "reasoning goes back to its own provider"
    if asking.wire.prefix == "openai":
        assert "sealed" in text


async def test_a_failed_result_says_so_to_the_model(asking: Asking) -> None:
    asking.server.answers.append(streams(asking.wire.parts(Text(["oh"])) + asking.wire.end()))
    call = Part(kind=TOOL_CALL, call="call_a", tool="price", arguments='{"sku":"A1"}')
    failed = tool_message(tool_result(call, "no such sku", failed=True))
    await asking.message(asking.request((*HELLO, Message(role="assistant", parts=(call,)), failed)))
    assert "no such sku" in asking.wire.last_tool_output(asking.server.bodies[0])
    assert "error" in asking.wire.last_tool_output(asking.server.bodies[0])


async def test_reasoning_and_seals_of_another_origin_are_not_shown(asking: Asking) -> None:
    asking.server.answers.append(streams(asking.wire.parts(Text(["ok"])) + asking.wire.end()))
    foreign = Message(
        role="assistant",
        provider="anthropic",
        api="Anthropic",
        parts=(
            Part(kind=REASONING, text="secret thoughts", ext={"signature": "foreign seal", "id": "foreign-id"}),
            Part(kind=TEXT, text="visible", ext={"id": "foreign-id"}),
            Part(kind="hologram", text="of a later version"),
        ),
    )
    await asking.message(asking.request((*HELLO, foreign, user_message("and now?"))))
    sent = str(asking.server.bodies[0])
    assert "visible" in sent
    for hidden in ("secret thoughts", "foreign seal", "foreign-id", "of a later version"):
        assert hidden not in sent


async def test_an_answer_of_which_nothing_can_be_shown_is_left_out(asking: Asking) -> None:
    asking.server.answers.append(streams(asking.wire.parts(Text(["ok"])) + asking.wire.end()))
    thought = Message(role="assistant", provider="x", parts=(Part(kind=REASONING, text="secret"),))
    await asking.message(asking.request((*HELLO, thought, user_message("go on"))))
    assert "assistant" not in str(asking.server.bodies[0])


async def test_invalid_arguments_reach_the_caller_and_go_back_as_they_were(asking: Asking) -> None:
    frames = asking.wire.parts(ToolCall("call_a", "price", ['{"sku": ', "A1"])) + asking.wire.end("tool_calls")
    asking.server.answers.append(streams(frames))
    asking.server.answers.append(streams(asking.wire.parts(Text(["sorry"])) + asking.wire.end()))
    first = await asking.message(asking.request(tools=(PRICE,)))
    assert first.calls[0].arguments == '{"sku": A1'
    told = tool_message(tool_result(first.calls[0], "invalid JSON", failed=True))
    assert (await asking.message(asking.request((*HELLO, first, told), tools=(PRICE,)))).text == "sorry"
    assert "A1" in str(asking.server.bodies[1])


async def test_an_answer_that_is_too_long_says_so_and_is_whole(asking: Asking) -> None:
    asking.server.answers.append(streams(asking.wire.parts(Text(["once upon a"])) + asking.wire.end("length")))
    message = await asking.message()
    assert (message.finish_reason, message.text) == ("length", "once upon a")


async def test_settings_reach_the_provider(asking: Asking) -> None:
    asking.server.answers.append(streams(asking.wire.parts(Text(["ok"])) + asking.wire.end()))
    await asking.message(asking.request(settings={"max_tokens": 54321}))
    assert "54321" in str(asking.server.bodies[0])


async def test_instructions_alone_are_a_request(asking: Asking) -> None:
    asking.server.answers.append(streams(asking.wire.parts(Text(["ok"])) + asking.wire.end()))
    assert (await asking.message(asking.request((), instructions="Say ok."))).text == "ok"
    assert "Say ok." in str(asking.server.bodies[0])


async def test_requests_one_after_another_share_a_connection(asking: Asking) -> None:
    for _ in range(3):
        asking.server.answers.append(streams(asking.wire.parts(Text(["ok"])) + asking.wire.end()))
        await asking.message()
    assert asking.server.connections == 1
