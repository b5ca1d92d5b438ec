"""The agents that the kit's own tests use."""

from __future__ import annotations

from mesh import Context, Mesh

app = Mesh("kit", version="1")


def look_up(topic: str) -> list[str]:
    return [topic, "b"]


@app.agent
async def report(ctx: Context, topic: str) -> str:
    await ctx.emit_progress("looking", 0.5)
    facts = await ctx.step("facts", look_up, topic)
    await ctx.emit_text(f"found {len(facts)} facts. ")
    await ctx.emit_event("facts", {"count": len(facts)})
    await ctx.step("key", ctx.secret, "KEY", idempotent=False)
    return f"summary of {topic}"


@app.agent
async def add(ctx: Context, numbers: list[int]) -> int:
    return sum(numbers)
