"""Every body of a submit is understood or refused, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.command import MAX_NESTING, Admission, Refusal, parse_submit
from schemas.ids import is_root_id

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


def admitted(body: bytes) -> Admission:
    read = parse_submit("report", body)
    assert isinstance(read, Admission), read
    return read


def refused(body: bytes) -> Refusal:
    read = parse_submit("report", body)
    assert isinstance(read, Refusal), read
    assert read.error.code == "invalid_input"
    return read


@given(st.binary())
@example(b"")
@example(b"{")
@example(b"\xff{}")
@example(b'{"input":"\\ud800"}')
@example(b'{"input":1,"context_id":"\\udfff"}')
@example(b'{"input":1e999}')
@example(b'{"input":' + b"9" * 5000 + b"}")
def test_any_bytes_are_admitted_or_refused(body: bytes) -> None:
    read = parse_submit("report", body)
    assert msgspec.json.encode(read)


@given(values)
def test_any_json_value_is_taken_as_input_and_can_be_stored(value: Any) -> None:
    read = admitted(msgspec.json.encode({"input": value}))
    assert msgspec.json.encode(read.submit.input) == msgspec.json.encode(value)


@given(st.dictionaries(st.text(max_size=12), values, max_size=6))
def test_any_json_object_is_admitted_or_refused_with_a_message(keys: dict[str, Any]) -> None:
    read = parse_submit("report", msgspec.json.encode(keys))
    assert isinstance(read, Admission) if set(keys) == {"input"} else read.digest
    assert isinstance(read, Admission) or read.error.message


@given(st.text().filter(lambda text: not text.lstrip(" \t\r\n").startswith("{") and "\x00" not in text))
def test_text_that_is_no_object_is_the_input_unparsed(text: str) -> None:
    assert admitted(text.encode()).submit.input == text


@pytest.mark.parametrize("text", ["42", "[1, 2]", '"quoted"', "null", "", "  ", "\ufeff{}"])
def test_json_that_is_no_object_stays_text(text: str) -> None:
    assert admitted(text.encode()).submit.input == text


def test_white_space_before_an_object_is_skipped() -> None:
    assert admitted(b' \r\n\t{"input": 1}').submit.input == 1


def test_text_with_a_nul_is_refused() -> None:
    assert "NUL" in refused(b"a\x00b").error.message


def test_bytes_that_are_not_utf_8_are_refused_with_their_place() -> None:
    assert "byte 2" in refused(b"ab\xff").error.message


@pytest.mark.parametrize("levels", [MAX_NESTING + 1, 5_000, 200_000])
def test_deep_nesting_is_refused(levels: int) -> None:
    assert "nested" in refused(b'{"input":' + b"[" * levels + b"]" * levels + b"}").error.message


def test_nesting_just_within_the_limit_is_taken() -> None:
    levels = MAX_NESTING - 1
    assert isinstance(admitted(b'{"input":' + b"[" * levels + b"]" * levels + b"}").submit.input, list)


def test_brackets_in_text_do_not_count_as_nesting() -> None:
    assert admitted(msgspec.json.encode({"input": "[{" * 1000})).submit.input == "[{" * 1000


@pytest.mark.parametrize("digits", [19, 20, 39, 300, 4000])
def test_integers_beyond_64_bits_keep_their_value(digits: int) -> None:
    number = 10**digits + 7
    read = admitted(b'{"input": %d}' % number)
    assert msgspec.json.encode(read.submit.input) == str(number).encode()


def test_an_integer_that_python_cannot_read_is_refused() -> None:
    refused(b'{"input": ' + b"1" * 5_000 + b"}")


def test_a_missing_input_names_the_nearest_key() -> None:
    assert "'inputs'" in (refused(b'{"inputs": "x"}').error.hint or "")


def test_a_wrong_type_names_its_path() -> None:
    assert "$.deadline_s" in refused(b'{"input": 1, "deadline_s": "soon"}').error.message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task_id", "a--b"),
        ("task_id", "a.b"),
        ("task_id", ""),
        ("task_id", "x" * 65),
        ("task_id", "a b"),
        ("context_id", ""),
        ("context_id", "é" * 129),
        ("owner", "nobody"),
        ("owner", "a/b/c"),
        ("owner", "a b/c"),
        ("deadline_s", 0),
        ("deadline_s", -1),
        ("deadline_s", 1e300),
        ("deadline_s", True),
        ("metadata", []),
        ("trace", 1),
    ],
)
def test_a_bad_field_is_refused_by_name(key: str, value: Any) -> None:
    assert f"$.{key}" in refused(msgspec.json.encode({"input": 1, key: value})).error.message


def test_a_refusal_keeps_a_valid_id_so_that_the_caller_finds_its_task() -> None:
    assert refused(b'{"task_id": "mine", "deadline_s": "x", "input": 1}').task_id == "mine"
    assert refused(b'{"task_id": "a--b", "input": 1}').task_id is None


def test_unknown_keys_beside_a_valid_input_are_kept() -> None:
    assert admitted(b'{"input": 1, "priority": 5}').unknown == {"priority": 5}


@given(st.permutations(["input", "task_id", "owner", "metadata", "extra"]), st.sampled_from(["", " ", "\n\t"]))
def test_key_order_and_white_space_do_not_change_the_digest(order: list[str], space: str) -> None:
    value = {"input": {"b": [1, 2], "a": "ü"}, "task_id": "t", "owner": "a/b", "metadata": {"k": None}, "extra": 1.5}
    body = "{" + ",".join(f'{space}"{key}"{space}:{msgspec.json.encode(value[key]).decode()}' for key in order) + "}"
    inner = body.replace('"b":[1,2],"a":"ü"', '"a":"ü","b":[1,2]')
    plain = msgspec.json.encode(value)
    assert parse_submit("a", body.encode()).digest == parse_submit("a", inner.encode()).digest
    assert parse_submit("a", body.encode()).digest == parse_submit("a", plain).digest


def test_the_trace_does_not_change_the_digest() -> None:
    assert admitted(b'{"input": 1, "trace": "00-a-b-01"}').digest == admitted(b'{"input": 1}').digest


@given(values, values)
def test_bodies_have_one_digest_only_if_they_say_the_same(one: Any, other: Any) -> None:
    first, second = (msgspec.json.encode({"input": value}, order="sorted") for value in (one, other))
    assert (parse_submit("a", first).digest == parse_submit("a", second).digest) == (first == second)


def test_the_same_body_to_another_agent_has_another_digest() -> None:
    assert parse_submit("a", b"x").digest != parse_submit("b", b"x").digest


@given(st.text(max_size=70))
def test_a_task_id_is_admitted_exactly_if_it_is_valid(id: str) -> None:
    read = parse_submit("a", msgspec.json.encode({"input": 1, "task_id": id}))
    assert isinstance(read, Admission) == is_root_id(id)
