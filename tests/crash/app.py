"""Agents that the crash tests serve: one for each kind of effect."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

from mesh import Context, Mesh, OutcomeUnknown, StepFailed
from mesh.testing import note_effect

app = Mesh("crash", version="1")


def double(number: int) -> int:
    note_effect("double")
    return number * 2


async def shout(text: str) -> str:
    note_effect("shout")
    return text.upper()


def charge(amount: int) -> str:
    note_effect("charge")
    return f"receipt {amount}"


def refuse() -> None:
    note_effect("refuse")
    raise ValueError("no")


@app.agent
async def uploads(ctx: Context, size: int) -> int:
    """An artifact that is streamed, and a large result."""
    await ctx.write_artifact("zeros.bin", _pieces(size))
    body = await ctx.step("body", lambda: "x" * size)
    return len(body)


async def _pieces(size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, 50_000):
        yield bytes(min(50_000, size - start))


@app.agent
async def everything(ctx: Context, number: int) -> dict[str, Any]:
    """Two steps, text, an event, a step that fails."""
    await ctx.emit_text("first ")
    doubled = await ctx.step("double", double, number)
    await ctx.emit_text(f"then {doubled} ")
    await ctx.emit_event("half", {"way": doubled})
    text = await ctx.step("shout", shout, "otters")
    try:
        await ctx.step("refuse", refuse)
    except StepFailed as error:
        await ctx.emit_text(f"refused: {error.error.message} ")
    await ctx.emit_text("last")
    return {"doubled": doubled, "text": text}


@app.agent
async def pay(ctx: Context, amount: int) -> str:
    """A step that must not be repeated."""
    try:
        return await ctx.step("charge", charge, amount, idempotent=False)
    except OutcomeUnknown:
        return "ask the bank"


@app.agent
async def steps(ctx: Context, count: int) -> int:
    """Many steps with a little time between them, and text."""
    total = 0
    for number in range(count):
        total += await ctx.step("double", double, number)
        await ctx.emit_text(f"{number} ")
        await asyncio.sleep(0.01)
    return total


@app.agent
async def branches(ctx: Context, count: int) -> list[int]:
    """Steps side by side."""
    return list(await asyncio.gather(*(ctx.step(f"double {n}", double, n) for n in range(count))))


@app.agent
async def careless(ctx: Context, amount: int) -> str:
    """The bug that `crash_points` must find: an effect that no step holds."""
    await ctx.step("double", double, amount)
    receipt = charge(amount)
    await ctx.step("shout", shout, receipt)
    return receipt


@app.agent
async def hasty(ctx: Context, amount: int) -> str:
    """Another one: an effect that must be made once stands in a step that may be repeated."""
    return await ctx.step("charge", charge, amount)


@app.agent
async def deadly(ctx: Context, _: str) -> str:
    """Kills its worker before it has written anything."""
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@app.agent
async def patient(ctx: Context, seconds: float) -> str:
    """One long step; it says when it began."""
    await ctx.emit_text("waiting ")
    await ctx.step("wait", asyncio.sleep, seconds)
    return "waited"
