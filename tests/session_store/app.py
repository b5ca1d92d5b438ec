"""What the store is kept busy with, also in processes of their own."""

from __future__ import annotations

from mesh import Context, Mesh

app = Mesh("shop")


@app.agent
async def count(ctx: Context, word: str) -> int:
    """Takes three commits, or fails."""
    if word == "bad":
        raise ValueError("no such word")
    return await ctx.step("length", lambda: len(word))
