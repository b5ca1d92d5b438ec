"""The agents that the benchmark runs, and their tool."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Final

from msgspec import Struct

from mesh.agents.app import Mesh
from mesh.agents.context import Context
from mesh.agents.model_agent import ModelAgent
from mesh.models.api import Endpoint
from mesh.models.scripted import Call, Reply, in_turn

STAMP_CHARS: Final = 18
TOOL: Final = "price"
TOOL_INPUT: Final = {"sku": "A1"}
ANSWER: Final = "3.00€"
SLOW_S: Final = 0.05
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


@app.tool(name=TOOL)
async def price(sku: str) -> float:
    """The price of one item in EUR."""
    return 3.0


@app.agent
async def survive(ctx: Context, victim: int) -> float:
    """Says when its step began in a process that is not the victim; in that one the step does not end."""
    await ctx.emit_text("running")
    return await ctx.step("step", _begun_elsewhere, victim)


def _script(name: str, answer_s: float) -> str:
    """A model that takes as long over each of its two answers, a call of the tool and a text; each is one piece."""
    call, answer = Reply(calls=(Call(TOOL, TOOL_INPUT),), pause_s=answer_s), Reply(text=ANSWER, pause_s=answer_s)
    return app.scripted_model(name, in_turn(call, answer))


app.model_agent("turn", model=_script("prompt", 0.0), tools=[price])
app.model_agent("slow_turn", model=_script("slow", SLOW_S), tools=[price])


@app.agent
async def http_turn(ctx: Context, url: str) -> str:
    """As `turn`, with the provider at this URL; no model agent, so that nobody else imports a provider's code."""
    asking = ModelAgent(model="openai-chat:bench", tools=(price,), endpoint=Endpoint(base_url=url))
    answer: str = await asking.answer(ctx, "What does A1 cost?")
    return answer


async def _number(index: int) -> int:
    return index


async def _begun_elsewhere(victim: int) -> float:
    begun = time.time()
    if os.getpid() == victim:
        await asyncio.Event().wait()
    return begun
