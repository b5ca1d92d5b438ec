"""Messages as they stand in a log: read for ever, whatever a later version adds."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.models import total_usage
from schemas.message import Message, Part, tool_message, tool_result, user_message
from schemas.task import Money, Usage

FILES = Path(__file__).parent / "golden"
CALL = Part(kind="tool_call", call="call_1", tool="price", arguments='{"sku":"A1"}', ext={"id": "fc_1"})
SAMPLES = {
    "user": user_message("What costs A1? ö"),
    "assistant": Message(
        role="assistant",
        parts=(
            Part(kind="reasoning", text="look it up", ext={"id": "rs_1", "signature": "sealed", "details": {"a": [1]}}),
            Part(kind="text", text="One moment."),
            CALL,
        ),
        provider="openai",
        model="gpt-5-mini-2025-08-07",
        api="OpenAIResponses",
        finish_reason="tool_call",
        usage=Usage(input_tokens=11, output_tokens=7, requests=1, cost=Money(amount="0.00001675")),
        prices="genai-prices 0.2.3",
    ),
    "tool": tool_message(tool_result(CALL, {"price": 2.5, "stock": None}), tool_result(CALL, "no", failed=True)),
}

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
texts = st.text(max_size=20)
parts = st.builds(
    Part,
    kind=st.sampled_from(["text", "reasoning", "tool_call", "tool_result", "hologram"]),
    text=texts,
    call=texts,
    tool=texts,
    arguments=texts,
    content=plain,
    failed=st.booleans(),
    ext=st.none() | st.dictionaries(texts, plain, max_size=3),
)
usages = st.builds(
    Usage,
    input_tokens=st.integers(0, 10**9),
    output_tokens=st.integers(0, 10**9),
    requests=st.just(1),
    cost=st.none() | st.builds(Money, amount=st.decimals(0, 1000, places=9).map(lambda amount: f"{amount:f}")),
)
messages = st.builds(
    Message,
    role=st.sampled_from(["user", "assistant", "tool", "oracle"]),
    parts=st.lists(parts, max_size=4).map(tuple),
    provider=texts,
    model=texts,
    finish_reason=texts,
    usage=st.none() | usages,
)


@given(messages)
def test_a_message_comes_back_from_json_as_it_was(message: Message) -> None:
    assert msgspec.json.decode(msgspec.json.encode(message), type=Message) == message


@given(messages)
def test_a_message_comes_back_from_the_plain_values_of_a_log(message: Message) -> None:
    plain_values = msgspec.json.decode(msgspec.json.encode(message))
    assert msgspec.convert(plain_values, Message) == message


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_message_is_encoded_and_decoded_as_its_golden_file_says(name: str) -> None:
    body = (FILES / f"message.{name}.json").read_bytes()
    assert msgspec.json.encode(SAMPLES[name]) == body
    assert msgspec.json.decode(body, type=Message) == SAMPLES[name]


def test_what_a_later_version_adds_is_tolerated() -> None:
    newer: dict[str, Any] = {
        "role": "assistant",
        "parts": [{"kind": "hologram", "depth": 3}, {"kind": "text", "text": "hi", "mood": "good"}],
        "weather": "fine",
    }
    message = msgspec.convert(newer, Message)
    assert message.text == "hi"
    assert message.parts[0].kind == "hologram"
    assert message.calls == ()


@given(st.lists(usages, min_size=1, max_size=6))
def test_usage_adds_up_and_one_unknown_cost_makes_the_sum_unknown(given_usages: list[Usage]) -> None:
    total = total_usage(given_usages)
    assert total.requests == len(given_usages)
    assert total.input_tokens == sum(usage.input_tokens for usage in given_usages)
    costs = [usage.cost for usage in given_usages]
    if None in costs:
        assert total.cost is None
    else:
        assert total.cost is not None
        assert Decimal(total.cost.amount) == sum(Decimal(cost.amount) for cost in costs if cost)


def test_unknown_usage_counts_as_a_request_of_unknown_cost() -> None:
    known = Usage(input_tokens=5, requests=1, cost=Money(amount="0.10"))
    assert total_usage([known, known]).cost == Money(amount="0.20")
    assert total_usage([known, None]) == Usage(input_tokens=5, requests=2)


def test_costs_in_two_currencies_have_no_sum() -> None:
    dollars, euros = (Usage(requests=1, cost=Money(amount="1", currency=name)) for name in ("USD", "EUR"))
    assert total_usage([dollars, euros]).cost is None
