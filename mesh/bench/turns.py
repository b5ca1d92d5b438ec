"""W2: turns of an agent, each two model calls and between them one tool call; W2h: the same over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from mesh.bench import stage
from mesh.bench.load import by_result, closed_loop, observed, timed_result
from mesh.bench.options import Amounts
from mesh.bench.provider import Provider
from mesh.bench.report import Row, latencies
from mesh.bench.stage import Stage

STEPS: Final = 3


async def measure(store: Path | None, amounts: Amounts) -> list[Row]:
    """With models that answer at once and after 50 ms."""
    async with stage.mesh(store, tool_runners=1) as on:
        rows = await _turns(on, "turn", "A1", "W2 turns, models of 0 ms", amounts)
        seconds = [await timed_result(on, "turn", "A1") for _ in range(amounts.latencies)]
        rows += latencies("W2 one turn, models of 0 ms", seconds, "one in flight, client.submit and result()")
        return rows + await _turns(on, "slow_turn", "A1", "W2 turns, models of 50 ms", amounts)


async def measure_http(store: Path | None, amounts: Amounts) -> list[Row]:
    """With a provider on this machine that answers at once; it is a part of the client process."""
    async with stage.mesh(store, tool_runners=1) as on, Provider() as provider:
        return await _turns(on, "http_turn", provider.url, "W2h turns over HTTP", amounts)


async def _turns(on: Stage, agent: str, input: Any, name: str, amounts: Amounts) -> list[Row]:
    count, in_flight = amounts.turns, amounts.turns_in_flight
    await closed_loop(amounts.warm_up, in_flight, lambda: by_result(on, agent, input))
    turns, *cpu = await observed(on, agent, input, name, count, in_flight, "turn")
    each = Row(f"{name}: each step", 1e3 / turns.value / STEPS, "ms", f"{STEPS} steps a turn, over all in flight")
    return [turns, each, *cpu]
