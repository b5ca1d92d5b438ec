"""Tools that a runner is at work on when it is told to leave."""

from __future__ import annotations

import asyncio
from typing import Any

from mesh import Context, Mesh
from mesh.agents.tool_context import ToolContext

app = Mesh("slow", version="1")


@app.tool
async def brief(ctx: ToolContext) -> str:
    await ctx.emit_progress("begun")
    await asyncio.sleep(0.5)
    return "done"


@app.tool
async def endless(ctx: ToolContext) -> None:
    await ctx.emit_progress("begun")
    await asyncio.Event().wait()


@app.agent
async def calls(ctx: Context, tool: str) -> Any:
    return await ctx.tool(tool, {})
