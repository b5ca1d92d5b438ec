"""Values between JSON and the annotations of a handler."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.agents.values import as_recorded, describe, read_input, restore, return_type, schema_of
from mesh.errors import AppError, InvalidInput, TooLarge
from schemas.command import MAX_NESTING
from schemas.object import MAX_VALUE_BYTES


@dataclass
class Order:
    item: str
    count: int = 1


@dataclass
class Picky:
    count: int

    def __post_init__(self) -> None:
        raise KeyError("whatever a class of the user raises")


class Point(msgspec.Struct):
    x: int
    y: int = 0


@pytest.mark.parametrize(
    ("value", "kind", "wanted"),
    [
        ("42", str, "42"),
        ("42", Any, "42"),
        ("42", int, 42),
        ('{"item": "tea", "count": 2}', Order, Order("tea", 2)),
        ({"item": "tea"}, Order, Order("tea")),
        ('{"x": 1}', Point, Point(1)),
        ("[1, 2]", list[int], [1, 2]),
        ("null", int | None, None),
        ("2026-01-02", date, date(2026, 1, 2)),
        ("red", Literal["red", "blue"], "red"),
        ("text", str | int, "text"),
        (5, float, 5.0),
        ("", Annotated[str, msgspec.Meta(max_length=3)], ""),
        ('["a"]', list[str], ["a"]),
    ],
)
def test_an_input_becomes_what_the_handler_takes(value: Any, kind: Any, wanted: Any) -> None:
    assert read_input(value, kind) == wanted


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("two", int),
        (True, int),
        ({"item": 1}, Order),
        ("not json", Order),
        ("[" * 100_000, list[int]),
        ("long text", Annotated[str, msgspec.Meta(max_length=3)]),
        ({"count": 1}, Picky),
        ('{"count": 1}', Picky),
        (None, str),
    ],
)
def test_an_input_that_does_not_fit_is_refused_with_what_is_taken(value: Any, kind: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_input(value, kind)
    assert refused.value.hint


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)  # fmt: skip


@given(plain)
def test_a_json_value_is_recorded_as_it_is(value: Any) -> None:
    assert as_recorded(value, Any, "x") == value


@given(st.lists(st.integers()) | st.tuples(st.integers(), st.text()) | st.sets(st.integers()) | st.floats() | plain)
def test_what_is_recorded_is_what_a_replay_reads(value: Any) -> None:
    try:
        recorded = as_recorded(value, Any, "x")
    except InvalidInput:
        return
    again = msgspec.json.decode(msgspec.json.encode(recorded))
    assert again == recorded
    assert type(again) is type(recorded)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(Order("tea", 2), Order), (Point(1, 2), Point), (date(2026, 1, 2), date), (Decimal("1.10"), Decimal)],
)
def test_what_was_recorded_is_restored_by_its_annotation(value: Any, kind: Any) -> None:
    assert restore(as_recorded(value, kind, "x"), kind) == value


def test_a_tuple_comes_back_as_a_list_live_as_well_as_after_a_crash() -> None:
    assert as_recorded((1, (2,)), Any, "x") == [1, [2]]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (object(), Any),
        (iter([1]), Any),
        ({(1, 2): 3}, Any),
        (["\ud800"], Any),
        ([10**5000], Any),
        ("text", int),
        (None, str),
        (float("nan"), float),
        ({"count": 1}, Picky),
    ],
)
def test_what_cannot_be_recorded_says_so(value: Any, kind: Any) -> None:
    with pytest.raises(InvalidInput, match="the output"):
        as_recorded(value, kind, "the output")


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidInput):
        as_recorded(loop, Any, "x")


def test_a_value_that_would_take_too_much_memory_is_too_large() -> None:
    with pytest.raises(TooLarge):
        as_recorded("x" * MAX_VALUE_BYTES, Any, "x")
    assert as_recorded("x" * (MAX_VALUE_BYTES - 2), Any, "x")


def test_nothing_is_converted_without_an_annotation() -> None:
    for kind in (Any, None, inspect.Parameter.empty):
        assert restore({"a": 1}, kind) == {"a": 1}
        assert schema_of(kind, "x") is None


def test_a_function_says_what_it_returns() -> None:
    def typed() -> Order:
        return Order("tea")

    def broken() -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
        return None

    assert return_type(typed) is Order
    assert return_type(broken) is Any
    assert return_type(len) is Any


def test_an_annotation_that_json_cannot_hold_is_refused_with_its_place() -> None:
    with pytest.raises(AppError, match="agent 'x', input"):
        schema_of(complex, "agent 'x', input")


def test_an_annotation_is_described_for_people() -> None:
    assert describe(Order) == "Order"
    assert "list[int]" in describe(list[int] | None)


def test_what_is_nested_too_deep_for_a_reader_is_not_recorded() -> None:
    value: Any = 1
    for _ in range(MAX_NESTING):
        value = [value]
    assert as_recorded(value, Any, "it") == value
    with pytest.raises(InvalidInput, match="nested deeper than 64 levels"):
        as_recorded([value], Any, "it")
