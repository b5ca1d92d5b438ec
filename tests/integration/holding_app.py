"""Agents and tools that hold what they do until a file is there, so that a test can end them in the middle of it."""

from __future__ import annotations

from pathlib import Path

from mesh import Context, Mesh, OutcomeUnknown
from mesh.testing import eventually, note_effect

HELD_S = 60.0
app = Mesh("holding", version="1")


async def _until(path: str) -> None:
    await eventually(Path(path).exists, HELD_S)


async def hold(path: str) -> str:
    note_effect("hold")
    await _until(path)
    return "held"


async def charge(path: str) -> str:
    note_effect("charge")
    await _until(path)
    return "receipt"


@app.agent
async def holds(ctx: Context, path: str) -> str:
    await ctx.emit_text("begun ")
    return await ctx.step("hold", hold, path)


@app.agent
async def pays(ctx: Context, path: str) -> str:
    try:
        return await ctx.step("charge", charge, path, idempotent=False)
    except OutcomeUnknown:
        return "ask the bank"


@app.agent
async def echo(ctx: Context, text: str) -> str:
    return text


@app.tool
async def charge_card(path: str) -> str:
    note_effect("charge")
    await _until(path)
    return "receipt"


@app.tool(idempotent=True)
async def look_up(path: str) -> str:
    note_effect("look up")
    await _until(path)
    return "found"


@app.agent
async def calls(ctx: Context, call: dict[str, str]) -> str:
    try:
        answer: str = await ctx.tool(call["tool"], {"path": call["path"]})
    except OutcomeUnknown:
        return "ask the bank"
    return answer
