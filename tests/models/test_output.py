"""Structured answers, and the schemas they and tools are asked for with."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from mesh.models import OutputSpec, correction, object_schema, output_of, output_spec, read_output
from mesh.models.api import OutputMode
from mesh.models.schema import flat_schema
from schemas.message import Message, Part, tool_message, tool_result
from tests.models.asking import HELLO, Asking
from tests.models.server import streams
from tests.models.wires import Text, ToolCall


class Place(Struct):
    city: str
    country: str = "DE"


class Trip(Struct):
    start: Place
    stops: list[Place]


class Tree(Struct):
    name: str
    children: list[Tree]


def answer(text: str = "", *calls: Part) -> Message:
    parts = (Part(kind="text", text=text),) if text else ()
    return Message(role="assistant", parts=(*parts, *calls))


def call(tool: str, arguments: str) -> Part:
    return Part(kind="tool_call", call="c1", tool=tool, arguments=arguments)


def test_the_root_of_a_schema_is_no_reference() -> None:
    schema = flat_schema(Trip)
    assert schema["type"] == "object"
    assert schema["properties"]["start"] == {"$ref": "#/$defs/Place"}
    assert set(schema["$defs"]) == {"Place"}
    assert "$defs" not in flat_schema(Place)


def test_a_type_that_refers_to_itself_keeps_its_definition() -> None:
    schema = flat_schema(Tree)
    assert schema["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    assert schema["$defs"]["Tree"]["type"] == "object"


@pytest.mark.parametrize(
    ("kind", "wrapped"), [(Trip, False), (Tree, False), (dict[str, int], False), (list[Place], True), (int, True)]
)
def test_an_object_is_asked_for_and_anything_else_is_wrapped_in_one(kind: Any, wrapped: bool) -> None:
    schema, is_wrapped = object_schema(kind)
    assert schema["type"] == "object"
    assert is_wrapped is wrapped


@given(st.lists(st.builds(Place, city=st.text())) | st.integers(-(2**63), 2**63) | st.none() | st.booleans())
def test_a_wrapped_value_comes_back(value: Any) -> None:
    kind = list[Place] | int | bool | None
    spec = output_spec(kind)
    assert spec.wrapped
    assert read_output(msgspec.json.encode({"value": value}).decode(), kind, spec) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"city": 5}', "Expected `str`, got `int` - at `$.city`"),
        ("{}", "missing required field `city`"),
        ("not json", "malformed"),
    ],
)
def test_what_does_not_fit_is_told_in_words_for_the_model(text: str, told: str) -> None:
    with pytest.raises(msgspec.DecodeError) as wrong:
        read_output(text, Place, output_spec(Place))
    assert told in str(wrong.value)


def test_an_answer_nested_without_end_does_not_fit_either() -> None:
    with pytest.raises(msgspec.DecodeError, match="deep"):
        read_output('{"value":' + "[" * 100_000, Any, output_spec(Any))


@pytest.mark.parametrize("text", ["{}", "[1]", '{"valu": 1}', '{"value": "x"}'])
def test_a_value_that_is_not_where_it_belongs_is_refused(text: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        read_output(text, int, output_spec(int))


def test_the_answer_is_a_call_of_the_output_tool_or_the_text() -> None:
    spec = output_spec(Place)
    assert output_of(answer("x", call(spec.name, '{"city":"Ulm"}')), spec) == '{"city":"Ulm"}'
    assert output_of(answer('{"city":"Ulm"}'), spec) == '{"city":"Ulm"}'
    assert output_of(answer('```json\n{"city":"Ulm"}\n```\n'), spec) == '{"city":"Ulm"}'
    assert output_of(answer("", call("price", "{}")), spec) is None


def test_a_correction_closes_the_output_call_or_is_said_by_the_user() -> None:
    spec = output_spec(Place)
    closed = correction(answer("", call(spec.name, "{}")), spec, "no city")
    assert (closed.role, closed.parts[0].call, closed.parts[0].failed) == ("tool", "c1", True)
    said = correction(answer("{}"), spec, "no city")
    assert said.role == "user"
    assert "no city" in said.text


@pytest.mark.parametrize("mode", ["auto", "native", "tool", "prompted"])
async def test_each_mode_reaches_the_provider_and_its_answer_is_read(asking: Asking, mode: OutputMode) -> None:
    spec = output_spec(Place, mode=mode)
    by_tool = mode in ("auto", "tool")
    piece = ToolCall("c1", spec.name, ['{"city":', '"Ulm"}']) if by_tool else Text(['{"city":', '"Ulm"}'])
    asking.server.answers.append(streams(asking.wire.parts(piece) + asking.wire.end()))
    message = await asking.message(asking.request(output=spec))
    text = output_of(message, spec)
    assert text is not None
    assert read_output(text, Place, spec) == Place("Ulm")
    sent = asking.server.bodies[0]
    assert "city" in str(sent)
    assert ("tools" in sent) is by_tool
    if by_tool:
        assert sent["tool_choice"] == "required"
    if mode == "native":
        assert "json_schema" in str(sent)


async def test_output_that_fails_twice_is_corrected_twice_and_then_passes(asking: Asking) -> None:
    spec: OutputSpec = output_spec(Place, mode="tool")
    tries = ["{}", '{"city": 5}', '{"city": "Ulm"}']
    for number, text in enumerate(tries):
        piece = ToolCall(f"c{number}", spec.name, [text])
        asking.server.answers.append(streams(asking.wire.parts(piece) + asking.wire.end()))
    messages: tuple[Message, ...] = HELLO
    problems = []
    while True:
        message = await asking.message(asking.request(messages, output=spec))
        text_of = output_of(message, spec)
        assert text_of is not None
        try:
            value = read_output(text_of, Place, spec)
            break
        except msgspec.DecodeError as error:
            problems.append(str(error))
            messages = (*messages, message, correction(message, spec, str(error)))
    assert value == Place("Ulm")
    assert len(problems) == 2
    assert problems[1] in asking.wire.last_tool_output(asking.server.bodies[2])


def test_a_failed_result_is_a_part_like_any_other() -> None:
    part = tool_result(call("price", "{}"), {"code": 1}, failed=True)
    assert tool_message(part).parts == (part,)
