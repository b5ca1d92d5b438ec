"""The files that `mesh init` writes."""

from __future__ import annotations

from typing import Final

APP: Final = '''\
"""An app of the mesh: run it with  mesh run report "otters" --app app.py:app"""

import asyncio
import os

from mesh import Context, Mesh
from mesh.models import Call, Reply
from mesh.models.scripted import in_turn

app = Mesh("shop")


async def fetch_facts(topic: str) -> list[str]:
    """What takes time or costs money belongs in a step: it is recorded once."""
    await asyncio.sleep(0.5)
    return [f"{topic} exist", f"there are books on {topic}"]


def summarise(facts: list[str]) -> str:
    return "; ".join(facts)


@app.agent
async def report(ctx: Context, topic: str) -> str:
    """Says what there is to know about a topic."""
    await ctx.emit_progress("looking for facts")
    facts = await ctx.step("facts", fetch_facts, topic)
    await ctx.emit_text(f"found {len(facts)} facts. ")
    await ctx.write_artifact("facts.md", "\\n".join(f"- {fact}" for fact in facts))
    return summarise(facts)


@app.tool(idempotent=True, timeout_s=5)
def price(item: str) -> float:
    """Price of one item in EUR."""
    return 1.5 * len(item)


# What the clerk says offline. With MESH_MODEL=openai:gpt-5-mini and its key, a real model answers instead.
script = app.scripted_model(
    "clerk",
    in_turn(
        Reply(text="Let me look. ", calls=(Call("price", {"item": "otter"}),)),
        Reply(text="An otter costs 7.50 EUR, says the price tool; the rest is a script, not a model."),
    ),
)
clerk = app.model_agent(
    "clerk",
    model=os.environ.get("MESH_MODEL") or script,
    instructions="You work in a shop. Look prices up, never guess them.",
    tools=[price],
)
'''

TEST: Final = '''\
"""Run it with  python -m pytest"""

import asyncio

from app import app, clerk, price, report

from mesh.testing import run_local


def test_a_report_names_the_topic() -> None:
    result = asyncio.run(run_local(report, "otters", app=app))
    assert "otters" in result.output


def test_a_tool_is_a_plain_function() -> None:
    assert price("otter") == 7.5


def test_the_clerk_looks_the_price_up() -> None:
    result = asyncio.run(run_local(clerk, "what is an otter?", app=app))
    assert result.steps["model/call_1_1/price"] == 7.5
    assert "7.50 EUR" in result.output
'''

FILES: Final = {"app.py": APP, "test_app.py": TEST}
