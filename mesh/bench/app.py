"""The agents that the benchmark runs."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from msgspec import Struct

from mesh.agents.app import Mesh
from mesh.agents.context import Context

STAMP_CHARS: Final = 18
app = Mesh("bench", version="1")


class Streaming(Struct, frozen=True):
    """How many pieces of text to emit, from when on, and how far apart.

    With `every_s` 0 they come as fast as they can; with `yielding` the handler waits one turn of the loop after each,
    as one that reads a model does at the least.
    """

    pieces: int
    begin_at: float
    every_s: float = 0.0
    yielding: bool = False


def stamp() -> str:
    """The time as a piece of text of `STAMP_CHARS` characters."""
    return f"{time.time():017.6f} "


@app.agent
async def noop(ctx: Context, text: str) -> str:
    """Does nothing."""
    return text


@app.agent
async def stream(ctx: Context, order: Streaming) -> None:
    """Emits stamps."""
    await asyncio.sleep(order.begin_at - time.time())
    for index in range(order.pieces):
        if order.every_s:
            await asyncio.sleep(order.begin_at + index * order.every_s - time.time())
        await ctx.emit_text(stamp())
        if order.yielding:
            await asyncio.sleep(0)


@app.agent
async def wait(ctx: Context) -> None:
    """Says that it runs, waits, and records when it was cancelled."""
    await ctx.emit_text("running")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await ctx.emit_event("cancelled", time.time())
        raise


@app.agent
async def steps(ctx: Context, count: int) -> None:
    """Makes a log: two events for each step, in one commit."""
    for index in range(count):
        await ctx.step("step", _number, index)


async def _number(index: int) -> int:
    return index
