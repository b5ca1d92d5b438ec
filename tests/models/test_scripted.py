"""The scripted model: deterministic, and plainly named."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import ModelUnavailable
from mesh.models import Call, ModelEvent, ModelRequest, Reply, ScriptedModel
from mesh.models.scripted import Rule, by_text, in_turn, one_by_one
from schemas.message import Message, tool_message, tool_result, user_message
from tests.models.asking import HELLO, deltas_of, events_of, joined, message_of, until_error


def request(*messages: Message) -> ModelRequest:
    return ModelRequest(model="scripted:test", messages=messages or HELLO)


async def said(rule: Rule, *messages: Message) -> str:
    return message_of(await events_of(ScriptedModel(rule), request(*messages))).text


async def test_it_says_that_it_is_scripted_and_that_it_costs_nothing() -> None:
    message = message_of(await events_of(ScriptedModel(in_turn(Reply(text="one two"))), request()))
    assert (message.provider, message.api, message.model) == ("scripted", "scripted", "test")
    assert message.usage is not None
    assert message.usage.cost is not None
    assert (message.usage.requests, message.usage.output_tokens, message.usage.cost.amount) == (1, 2, "0")


@given(st.text(), st.text())
async def test_pieces_add_up_to_the_parts(text: str, reasoning: str) -> None:
    events = await events_of(ScriptedModel(in_turn(Reply(text=text, reasoning=reasoning))), request())
    message = message_of(events)
    assert [part.text for part in message.parts] == [part for part in (reasoning, text) if part]
    for place, part in enumerate(message.parts):
        assert joined(events, place) == part.text


async def test_calls_have_ids_that_a_second_process_would_give_too() -> None:
    reply = Reply(calls=(Call("price", {"sku": "A1"}), Call("price", "{not json")))
    first = message_of(await events_of(ScriptedModel(in_turn(reply)), request()))
    assert [(call.call, call.arguments) for call in first.calls] == [
        ("call_1_1", '{"sku":"A1"}'),
        ("call_1_2", "{not json"),
    ]
    assert first.finish_reason == "tool_call"
    results = tool_message(*(tool_result(call, 2) for call in first.calls))
    second = await events_of(ScriptedModel(in_turn(reply)), request(*HELLO, first, results))
    assert [delta.call for delta in deltas_of(second)] == ["call_2_1", "call_2_2"]


async def test_it_answers_by_turn_and_keeps_no_count() -> None:
    rule = in_turn(Reply(text="one"), Reply(text="two"))
    spoken = Message(role="assistant")
    assert await said(rule) == "one"
    assert await said(rule) == "one"
    assert await said(rule, *HELLO, spoken, user_message("?")) == "two"
    assert await said(rule, *HELLO, spoken, user_message("?"), spoken, user_message("?")) == "one"


async def test_it_answers_by_the_newest_text_or_result() -> None:
    rule = by_text({"weather": Reply(text="rain"), r'"price":\s*2': Reply(text="cheap")}, Reply(text="pardon?"))
    assert await said(rule, user_message("The WEATHER?")) == "rain"
    assert await said(rule, user_message("weather"), user_message("no")) == "pardon?"
    call = Reply(calls=(Call("price"),))
    asked = message_of(await events_of(ScriptedModel(in_turn(call)), request()))
    assert await said(rule, *HELLO, asked, tool_message(tool_result(asked.calls[0], {"price": 2}))) == "cheap"


async def test_a_cut_comes_after_the_text() -> None:
    model = ScriptedModel(one_by_one(Reply(text="half of", error=ModelUnavailable("cut")), Reply(text="whole")))
    events, error = await until_error(model, request())
    assert str(error) == "cut"
    assert joined(events, 0) == "half of"
    assert message_of(await events_of(model, request())).text == "whole"


async def test_a_script_that_has_ended_says_so() -> None:
    model = ScriptedModel(one_by_one())
    with pytest.raises(ModelUnavailable, match="ended"):
        await events_of(model, request())


async def test_the_same_request_gets_the_same_events() -> None:
    model = ScriptedModel(in_turn(Reply(text="a b", reasoning="c", calls=(Call("t"),), pause_s=0.0001)))
    runs: Sequence[list[ModelEvent]] = [await events_of(model, request()) for _ in range(2)]
    assert runs[0] == runs[1]
