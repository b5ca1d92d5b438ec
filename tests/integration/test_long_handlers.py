"""What a handler does in the background is over when it is over: a day of it costs no more memory than a minute."""

from __future__ import annotations

import asyncio
import gc

from mesh import Context, Mesh
from tests.integration.world import World

ROUNDS = 50


def finished() -> int:
    """How many tasks of the event loop are done and still kept by somebody."""
    gc.collect()
    return sum(isinstance(one, asyncio.Task) and one.done() for one in gc.get_objects())


async def test_a_handler_that_emits_for_long_keeps_nothing_of_it(world: World) -> None:
    app, kept = Mesh("shop"), list[int]()

    @app.agent
    async def emits(ctx: Context) -> None:
        for n in range(ROUNDS):
            await ctx.emit_text(str(n))
            await ctx.step("save", lambda: None)
            if n in (0, ROUNDS - 1):
                kept.append(finished())

    await world.serve(app)
    task = await world.client.submit("emits", None)
    assert (await world.outcome(task.id)).result.state == "completed"
    assert kept[1] < kept[0] + ROUNDS // 2
