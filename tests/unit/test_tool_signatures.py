"""What a tool's signature says, to a model, to whoever calls it, and to mypy, which checks this file too."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, assert_type

import msgspec
import pytest
from msgspec import Meta, Struct

from mesh import AppError, Context, InvalidInput, Mesh, ToolContext
from mesh.testing import run_local

app = Mesh("signatures")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Box:
    size: int
    tags: list[str] = field(default_factory=list)


class Point(Struct):
    x: float
    y: float = 0.0


@app.tool
async def price(sku: str, count: int = 1) -> float:
    return len(sku) * count


@app.tool(idempotent=True)
async def quoted(ctx: ToolContext, sku: str, *, count: int = 1) -> float:
    return len(sku) * count


@app.tool
def half(number: int) -> float:
    return number / 2


@app.tool(max_attempts=2)
def numbered(ctx: ToolContext, number: int) -> list[int]:
    return [ctx.attempt, number]


@app.tool
async def alone(ctx: ToolContext) -> Box:
    return Box(3)


@app.agent
async def typed(ctx: Context) -> list[Any]:
    boxed = await ctx.tool(alone)
    results = [
        assert_type(await ctx.tool(price, "A1"), float),
        assert_type(await ctx.tool(price, "A1", count=2), float),
        assert_type(await ctx.tool(quoted, "A1"), float),
        assert_type(await ctx.tool(quoted, sku="A1", count=3), float),
        assert_type(await ctx.tool(half, 3), float),
        assert_type(await ctx.tool(numbered, 3), list[int]),
        assert_type(boxed, Box).size,
    ]
    return [*results, *await refused(ctx)]


@app.agent
async def wider(ctx: Context) -> list[Any]:
    """The same calls where something wider is wanted than the tool gives."""
    anything: object = await ctx.tool(price, "A1")
    maybe: float | None = await ctx.tool(quoted, "A1")
    blocking: object = await ctx.tool(numbered, 3)
    return [anything, maybe, blocking, str(await ctx.tool(half, 3)), print_as(await ctx.tool(alone))]


def print_as(value: object) -> str:
    return type(value).__name__


async def refused(ctx: Context) -> list[str]:
    """Calls that mypy refuses, and so does the tool; without the comments the build fails."""
    said = []
    for call in (
        lambda: ctx.tool(price, 1),  # type: ignore[call-overload]
        lambda: ctx.tool(price, "A1", number=3),  # type: ignore[arg-type, call-arg]
        lambda: ctx.tool(quoted, 1),  # type: ignore[call-overload]
        lambda: ctx.tool(half, "x"),  # type: ignore[call-overload]
        lambda: ctx.tool(numbered),  # type: ignore[call-overload]
        lambda: ctx.tool(alone, 1),  # type: ignore[call-overload]
    ):
        try:
            await call()
        except InvalidInput as error:
            said.append(error.message.partition(": ")[2] or error.message)
    return said


async def test_calls_are_typed_and_checked_with_and_without_the_tools_own_context() -> None:
    result = await run_local(typed, app=app)
    assert result.output == [
        2.0, 4.0, 2.0, 6.0, 1.5, [1, 3], 3,
        "Expected `str`, got `int` - at `$.sku`",
        "Object contains unknown field `number`",
        "Expected `str`, got `int` - at `$.sku`",
        "Expected `int`, got `str` - at `$.number`",
        "Object missing required field `number`",
        "tool 'alone' takes 0 arguments, not 1",
    ]  # fmt: skip


async def test_a_call_fits_wherever_something_wider_is_wanted() -> None:
    assert (await run_local(wider, app=app)).output == [2.0, 2.0, [1, 3], "1.5", "Box"]


@pytest.mark.parametrize(
    ("kind", "value", "wrong", "path"),
    [
        (Box, {"size": 1, "tags": ["a"]}, {"size": 1, "tags": [2]}, "$.value.tags[0]"),
        (Point, {"x": 1.0}, {"x": "1"}, "$.value.x"),
        (list[Point], [{"x": 1.0, "y": 2.0}], [{"x": 1.0}, {"y": 2.0}], "$.value[1]"),
        (Colour, "red", "green", "$.value"),
        (Literal["a", "b"], "a", "c", "$.value"),
        (str | None, None, 1, "$.value"),
        (dict[int, Box], {"7": {"size": 1}}, {"7": {"size": None}}, "$.value[...].size"),
        (date, "2026-01-31", "soon", "$.value"),
        (Decimal, "1.50", "x", "$.value"),
        (Annotated[int, Meta(ge=1, description="how many")], 3, 0, "$.value"),
        (float, 1, float("nan"), "$.value"),
    ],
)
def test_arguments_are_checked_with_the_path_of_the_field(kind: Any, value: Any, wrong: Any, path: str) -> None:
    async def tool(value: Any) -> Any:
        return value

    tool.__annotations__ = {"value": kind, "return": kind}
    made = Mesh("kinds").tool(tool)
    recorded = made.check({"value": value})
    assert msgspec.json.decode(msgspec.json.encode(recorded)) == recorded
    read = made.read(recorded)["value"]
    assert made.check({"value": read})["value"] == msgspec.to_builtins(read, str_keys=True)
    with pytest.raises(InvalidInput) as caught:
        made.check({"value": wrong})
    assert f"at `{path}`" in str(caught.value)


def test_the_schema_says_what_the_docstring_the_annotations_and_the_defaults_say() -> None:
    @app.tool
    async def pack(
        box: Box,
        colour: Colour = Colour.RED,
        how: Literal["flat", "folded"] = "flat",
        note: str | None = None,
        count: Annotated[int, Meta(ge=1, description="how many")] = 1,
        places: list[Point] = [Point(1.0)],  # noqa: B006, B008
    ) -> None:
        """Packs a box.

        It takes a while."""

    spec = pack.spec()
    assert (spec.name, spec.description) == ("pack", "Packs a box.\n\nIt takes a while.")
    properties = spec.schema["properties"]
    assert spec.schema["type"] == "object"
    assert spec.schema["required"] == ["box"]
    assert spec.schema["additionalProperties"] is False
    assert properties["colour"] == {"$ref": "#/$defs/Colour", "default": "red"}
    assert properties["how"] == {"enum": ["flat", "folded"], "default": "flat"}
    assert properties["note"] == {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
    assert properties["count"] == {"type": "integer", "minimum": 1, "description": "how many", "default": 1}
    assert properties["places"] == {
        "type": "array",
        "items": {"$ref": "#/$defs/Point"},
        "default": [{"x": 1.0, "y": 0.0}],
    }
    assert spec.schema["$defs"]["Colour"]["enum"] == ["blue", "red"]


def stars(*skus: str) -> None: ...
def keywords(**options: str) -> None: ...
def positional(sku: str, /) -> None: ...
def bare(sku) -> None: ...  # type: ignore[no-untyped-def]
def odd(thing: object) -> None: ...
def unknown(thing: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def lists(names: list[Callable[[], None]]) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (stars, "`*skus"),
        (keywords, "`**options"),
        (positional, "`sku"),
        (bare, "`sku`"),
        (odd, "object"),
        (unknown, "Nowhere"),
        (lists, "Callable"),
        (functools.partial(half, 1), "annotations"),
    ],
    ids=["args", "kwargs", "positional", "bare", "object", "unknown", "callable", "partial"],
)
def test_a_signature_that_a_model_cannot_fill_is_refused_where_it_is_decorated(function: Any, said: str) -> None:
    with pytest.raises(AppError) as caught:
        Mesh("refused").tool(name="named")(function)
    assert "tool 'named'" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "policy",
    [
        {"timeout_s": 0},
        {"timeout_s": float("inf")},
        {"max_attempts": 0},
        {"max_attempts": "3"},
        {"backoff_s": -1},
        {"max_concurrent": 0},
        {"on_unknown": "ask"},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused_where_it_is_written(policy: dict[str, Any]) -> None:
    with pytest.raises(AppError, match=next(iter(policy))):
        Mesh("refused").tool(**policy)(half.function)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
async def test_a_call_by_name_takes_no_odd_time_out(timeout_s: float) -> None:
    shop = Mesh("shop")
    shop.tool(half.function)

    @shop.agent
    async def hasty(ctx: Context) -> None:
        await ctx.tool("half", {"number": 3}, timeout_s=timeout_s)

    result = await run_local(hasty, app=shop)
    assert result.error
    assert result.error.code == "invalid_input"
    assert "time-out" in result.error.message
