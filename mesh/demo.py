"""The app that is served when none is named: two agents that need no model, no key and no network."""

from __future__ import annotations

import asyncio

from mesh.agents.app import Mesh
from mesh.agents.context import Context

PAUSE_S = 0.02
app = Mesh("demo", version="1")


@app.agent
async def hello(ctx: Context, text: str) -> str:
    """Answers any text, streamed word by word."""
    await ctx.emit_progress("reading your text", 0.1)
    letters = await ctx.step("count", count_letters, text)
    answer = (
        f"Hello! You sent {len(text)} characters, {letters} of them letters. "
        "I am the demo agent: I run offline, without a model and without a key. "
        "I counted in a step, whose result is in the log of this task and is not computed again, "
        "even if my worker is killed; and I stream this answer word by word. "
        "Write an agent of your own with: mesh init"
    )
    words = answer.split(" ")
    for number, word in enumerate(words):
        await ctx.emit_text(word if number == 0 else f" {word}")
        await asyncio.sleep(PAUSE_S)
    return answer


@app.agent
async def countdown(ctx: Context, seconds: int) -> str:
    """Counts down, one second per step; made to be canceled and killed."""
    for left in range(seconds, 0, -1):
        await ctx.emit_progress(f"{left} s to go", 1 - left / seconds)
        await ctx.emit_text(f"{left}… ")
        await ctx.step("second", asyncio.sleep, 1)
    await ctx.emit_text("done")
    return "done"


def count_letters(text: str) -> int:
    """How many letters a text has."""
    return sum(character.isalpha() for character in text)
