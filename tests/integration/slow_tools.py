"""Tools that a runner is at work on when it is told to leave."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from mesh import Context, Mesh, ToolContext

app = Mesh("slow", version="1")


@app.tool
async def brief(ctx: ToolContext) -> str:
    ctx.progress("begun")
    await asyncio.sleep(0.5)
    return "done"


@app.tool
async def endless(ctx: ToolContext) -> None:
    ctx.progress("begun")
    await asyncio.Event().wait()


@app.tool
async def family(ctx: ToolContext, pids: str) -> None:
    await ctx.execute([sys.executable, str(Path(__file__).parent / "family.py"), pids])


@app.agent
async def has_children(ctx: Context, pids: str) -> None:
    await ctx.tool(family, pids)


@app.agent
async def calls(ctx: Context, tool: str) -> Any:
    return await ctx.tool(tool, {})
