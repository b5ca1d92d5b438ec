"""Whoever joined the pieces has what the log has, also when the provider changes its mind."""

from __future__ import annotations

import pytest
from pydantic_ai.messages import (
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ToolCallPart,
)

from mesh.models.provider.streaming import Pieces
from schemas.message import Message, Part


@pytest.mark.parametrize(
    ("final", "logged"),
    [("abcd", "abcd"), ("abcde", "abcde"), ("another text", "abcd"), ("ab", "abcd"), ("", "abcd")],
)
def test_the_log_has_the_joined_pieces(final: str, logged: str) -> None:
    pieces = Pieces()
    events: list[ModelResponseStreamEvent] = [
        PartStartEvent(index=0, part=TextPart("ab")),
        PartStartEvent(index=0, part=TextPart("abc")),
        PartStartEvent(index=0, part=TextPart("no such beginning")),
        PartDeltaEvent(index=0, delta=TextPartDelta("d")),
        PartDeltaEvent(index=0, delta=TextPartDelta("")),
    ]
    deltas = [delta for event in events for delta in pieces.deltas(event)]
    assert [delta.text for delta in deltas] == ["ab", "c", "d"]
    message, rest = pieces.reconciled(Message(role="assistant", parts=(Part(kind="text", text=final),)))
    assert "".join(delta.text for delta in (*deltas, *rest)) == message.text == logged


def test_a_call_that_starts_again_is_announced_once() -> None:
    pieces = Pieces()
    start = PartStartEvent(index=0, part=ToolCallPart("price", "", "call_1"))
    deltas = [delta for event in (start, start) for delta in pieces.deltas(event)]
    assert [(delta.call, delta.tool, delta.text) for delta in deltas] == [("call_1", "price", "")]
