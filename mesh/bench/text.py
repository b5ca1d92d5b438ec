"""W3: text on its way from `emit_text` to a tail, each piece the time at which it was emitted."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, to_builtins

from mesh.bench import stage
from mesh.bench.app import STAMP_CHARS, Streaming
from mesh.bench.options import Amounts
from mesh.bench.report import Row, latencies
from mesh.bench.stage import Stage
from mesh.log.merge import TEXT

_ATTACH_S: Final = 0.5
_PER_SECOND: Final = 200


class Arrivals(Struct):
    """What one tail saw."""

    task: str
    began: float
    ended: float
    delays_s: list[float]
    texts: int


async def measure(store: Path | None, amounts: Amounts) -> list[Row]:
    """One fast stream and many at once, in one go and yielding after each call; then one at a steady pace."""
    rows: list[Row] = []
    async with stage.mesh(store) as on:
        every = await _streams(on, 1, amounts.pieces // 10)
        sent = await _deltas_sent(on, every)
        for yielding in (False, True):
            for streams, pieces in ((1, amounts.pieces), (amounts.streams, amounts.pieces_per_stream)):
                seen = await _streams(on, streams, pieces, yielding=yielding)
                every += seen
                before, sent = sent, await _deltas_sent(on, every)
                rows += _rate(seen, pieces, sent - before, " one turn apart" if yielding else "")
        paced = await _streams(on, 1, amounts.paced_pieces, every_s=1 / _PER_SECOND)
    return rows + latencies(f"W3 emit_text to a tail at {_PER_SECOND}/s", paced[0].delays_s, "one stream")


def _rate(seen: list[Arrivals], pieces: int, sent: int, how: str) -> list[Row]:
    seconds = max(one.ended for one in seen) - min(one.began for one in seen)
    name = f"W3 {len(seen)} stream{'s' if len(seen) > 1 else ''} of {pieces:,} calls{how}"
    texts = sum(one.texts for one in seen)
    return [
        Row(name, len(seen) * pieces / seconds, "1/s", "emit_text calls whose text arrived at a tail"),
        Row(f"{name}: messages", sent, "", f"deltas sent; the tails told {texts:,} pieces of text"),
    ]


async def _streams(
    on: Stage, streams: int, pieces: int, *, every_s: float = 0.0, yielding: bool = False
) -> list[Arrivals]:
    """They begin together, when every tail has been attached."""
    order = to_builtins(Streaming(pieces, time.time() + _ATTACH_S, every_s, yielding))
    return await asyncio.gather(*(_tail(on, order) for _ in range(streams)))


async def _tail(on: Stage, order: dict[str, Any]) -> Arrivals:
    task = await on.client.submit("stream", order)
    seen, rest = Arrivals(task.id, 0.0, 0.0, [], 0), ""
    async for event in task.tail():
        if event.type != TEXT:
            continue
        now = time.time()
        rest += event.data.text
        whole = len(rest) - len(rest) % STAMP_CHARS
        stamps = [float(rest[at : at + STAMP_CHARS]) for at in range(0, whole, STAMP_CHARS)]
        rest = rest[whole:]
        seen.began = seen.began or stamps[0]
        seen.ended = now
        seen.texts += 1
        seen.delays_s += [now - one for one in stamps]
    assert len(seen.delays_s) == order["pieces"], "text is missing"
    return seen


async def _deltas_sent(on: Stage, by: list[Arrivals]) -> int:
    """How many deltas have been sent, up to the last one of these tasks."""
    newest = [await on.bus.newest(on.names.deltas, on.names.delta(one.task)) for one in by]
    return max((message.seq for message in newest if message), default=0)
