"""W4: from a cancel request to the running handler."""

from __future__ import annotations

import time
from pathlib import Path

from mesh.bench import stage
from mesh.bench.options import Amounts
from mesh.bench.report import Row, latencies
from mesh.bench.stage import Stage
from mesh.log.merge import TEXT
from schemas import step


async def measure(store: Path | None, amounts: Amounts) -> list[Row]:
    """One task after the other; both times are of this machine's clock."""
    async with stage.mesh(store) as on:
        await _cancel_one(on)
        seen = [await _cancel_one(on) for _ in range(amounts.cancels)]
    return [
        *latencies("W4 cancel() to the handler", [handler for handler, _ in seen], "until its CancelledError"),
        *latencies("W4 cancel() to the end", [end for _, end in seen], "until a tail has the terminal event"),
    ]


async def _cancel_one(on: Stage) -> tuple[float, float]:
    task = await on.client.submit("wait", None)
    asked = handler = 0.0
    async for event in task.tail():
        if event.type == TEXT and not asked:
            asked = time.time()
            await task.cancel()
        elif event.type == step.EVENT_ADDED:
            handler = event.data.data
    return handler - asked, time.time() - asked
