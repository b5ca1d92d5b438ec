"""A mesh with a planted bug: its workers forget what the log holds, so committed steps are made again."""

from __future__ import annotations

from mesh import Context, Mesh
from mesh.agents import context
from mesh.log.journal import Journal
from mesh.log.steps import Step, perform_step

app = Mesh("broken", version="1")


def forgetful(journal: Journal, wanted: Step):  # type: ignore[no-untyped-def]
    journal.results.clear()
    return perform_step(journal, wanted)


context.perform_step = forgetful  # type: ignore[attr-defined]


@app.agent
async def two_steps(ctx: Context, text: str) -> str:
    first = await ctx.step("upper", str.upper, text)
    return await ctx.step("title", str.title, first)
