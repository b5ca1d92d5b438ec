"""An agent that has something done outside of the mesh, waits for it, and stops it when the task is canceled."""

from __future__ import annotations

import asyncio

from mesh import Context, Mesh

app = Mesh("attached", version="1")


@app.tool(idempotent=True)
async def never() -> None:
    await asyncio.Event().wait()


@app.agent
async def attaches(ctx: Context, _: str) -> None:
    job = await ctx.step("begin", lambda: "job 1")
    try:
        await ctx.tool(never)
    except asyncio.CancelledError:
        if ctx.cancelled:
            await asyncio.sleep(0)
            await ctx.emit_event("stopped", job)
        raise
