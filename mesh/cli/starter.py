"""The files that `mesh init` writes."""

from __future__ import annotations

from typing import Final

APP: Final = '''\
"""An app of the mesh: run it with  mesh run report "otters" --app app.py:app"""

import asyncio

from mesh import Context, Mesh

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
    return summarise(facts)
'''

TEST: Final = '''\
"""Run it with  python -m pytest"""

import asyncio

from app import app, fetch_facts, summarise


def test_a_report_names_the_topic() -> None:
    assert "otters" in summarise(asyncio.run(fetch_facts("otters")))


def test_the_app_has_its_agent() -> None:
    assert list(app.agents) == ["report"]
'''

FILES: Final = {"app.py": APP, "test_app.py": TEST}
