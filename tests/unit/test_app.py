"""What an app takes as an agent, and what it says of one that it does not."""

from __future__ import annotations

from typing import Any

import pytest

from mesh import AppError, Context, Mesh


@pytest.fixture
def app() -> Mesh:
    return Mesh("shop")


async def good(ctx: Context, topic: str) -> str:
    """Says it back.

    More of it.
    """
    return topic


async def alone(ctx: Context) -> None: ...
async def three(ctx: Context, a: str, b: str) -> None: ...
async def none() -> None: ...
async def many(ctx: Context, *args: str) -> None: ...
async def keyword(ctx: Context, *, a: str) -> None: ...
async def unreadable(ctx: Context, a: complex) -> None: ...
async def unknown(ctx: Context, a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def blocking(ctx: Context, a: str) -> None: ...
async def Shouting(ctx: Context) -> None: ...  # noqa: N802


def test_an_agent_is_registered_under_its_functions_name(app: Mesh) -> None:
    agent = app.agent(good)
    assert app.agents == {"good": agent}
    record = agent.record()
    assert (record.name, record.description) == ("good", "Says it back.")
    assert record.input_schema == record.output_schema == {"type": "string"}


def test_an_agent_may_have_another_name_and_no_input(app: Mesh) -> None:
    agent = app.agent(name="other", on_change="fail")(alone)
    assert (agent.name, agent.takes_input, agent.on_change) == ("other", False, "fail")


async def test_an_agent_is_called_like_its_function(app: Mesh) -> None:
    context: Any = None
    assert await app.agent(good)(context, "x") == "x"


@pytest.mark.parametrize("handler", [three, none, many, keyword, unreadable, unknown, blocking, Shouting])
def test_a_handler_that_cannot_be_served_is_refused_at_once(app: Mesh, handler: Any) -> None:
    with pytest.raises(AppError, match=handler.__name__):
        app.agent(handler)
    assert not app.agents


def test_two_agents_of_one_name_are_refused(app: Mesh) -> None:
    app.agent(good)
    with pytest.raises(AppError, match="two agents named 'good'"):
        app.agent(name="good")(alone)


@pytest.mark.parametrize("name", ["", "Shop", "a.b", "a b", "-a", "x" * 64])
def test_an_app_needs_a_name_that_is_a_subject_token(name: str) -> None:
    with pytest.raises(AppError):
        Mesh(name)
    with pytest.raises(AppError):
        Mesh("shop", pool=name or "A")


def test_an_apps_name_is_its_pool_unless_it_says_otherwise() -> None:
    assert Mesh("shop").pool == "shop"
    assert Mesh("shop", pool="slow").pool == "slow"


def test_a_function_that_is_no_tool_of_the_app_is_none_for_its_model(app: Mesh) -> None:
    with pytest.raises(AppError, match="which is no tool") as caught:
        app.model_agent("desk", model="scripted:x", tools=[good])  # type: ignore[list-item]
    assert "@app.tool" in (caught.value.hint or "")


def test_a_type_that_cannot_be_described_is_told_what_to_use(app: Mesh) -> None:
    with pytest.raises(AppError) as caught:
        app.agent(unreadable)
    assert "dataclass or a msgspec.Struct" in (caught.value.hint or "")
