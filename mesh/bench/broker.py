"""What the broker can do at most, and what the mesh's bus makes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

from mesh.bench import stage
from mesh.bench.cpu import CpuMeter
from mesh.bench.options import Amounts
from mesh.bench.report import Row
from mesh.bench.socket_client import INBOX, appends, connect, publishes
from mesh.bus import Bus, LiveMessage
from mesh.streams import Definitions, Stream

_STREAM: Final = Stream(name="BENCH", subjects=("bench.log.>", "bench.plain"))
_BODY: Final = b"x" * 256
_CORE_BODY: Final = b"x" * 128
_WINDOW: Final = 1_000
_WRITERS: Final = 256


async def measure(store: Path | None, amounts: Amounts, durability: str) -> list[Row]:
    """Core messages (not where everything is flushed, that makes no difference), publishes and fenced appends."""
    flushed = " flushed" if durability == stage.FLUSHED else ""
    async with stage.broker(store, durability) as server:
        bus = await Bus.connect(server.url, name="bench", timeout_s=30.0)
        try:
            await bus.ensure(Definitions(streams=(_STREAM,), buckets=(), consumers=()))
            rows = [] if flushed else [await _core(server.url, amounts), await _core_by_bus(bus, amounts)]
            rows += await _stored(server.url, CpuMeter({"broker": server.pid or 0}), amounts, flushed)
            return rows + await _stored_by_bus(bus, amounts, flushed)
        finally:
            await bus.aclose()


async def _core(url: str, amounts: Amounts) -> Row:
    count = amounts.core_messages
    frame = len(b"MSG bench.core 1 %d\r\n" % len(_CORE_BODY)) + len(_CORE_BODY) + 2
    async with connect(url) as publisher, connect(url) as subscriber:
        await subscriber.listen("bench.core")
        sent = publisher.send(publishes("bench.core", _CORE_BODY, count))
        seconds = await _timed(asyncio.gather(sent, subscriber.take(count * frame)))
    return Row("broker core messages", count / seconds, "1/s", "128 B published and received, plain sockets")


async def _core_by_bus(bus: Bus, amounts: Amounts) -> Row:
    count, left = amounts.core_messages // 4, amounts.core_messages // 4
    done = asyncio.Event()

    def take(message: LiveMessage) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    async def exchange() -> None:
        for _ in range(count):
            await bus.send("bench.core", _CORE_BODY)
        await done.wait()

    subscription = await bus.subscribe("bench.core", take)
    seconds = await _timed(exchange())
    await subscription.aclose()
    return Row("broker core messages by Bus", count / seconds, "1/s", "128 B, sender and subscriber in one process")


async def _stored(url: str, meter: CpuMeter, amounts: Amounts, flushed: str) -> list[Row]:
    count, turns = amounts.appends, amounts.appends_in_turn
    async with connect(url) as client:
        await client.listen(INBOX)
        plain = await _timed(client.store(publishes("bench.plain", _BODY, turns, reply=INBOX), window=1))
        fenced = await _timed(client.store(appends("bench.log.s", _BODY, turns), window=1))
        piped = await _timed(client.store(publishes("bench.plain", _BODY, count, reply=INBOX), window=_WINDOW))
        before = meter.used_s()["broker"]
        fenced_piped = await _timed(client.store(appends("bench.log.p", _BODY, count), window=_WINDOW))
        cpu_us = (meter.used_s()["broker"] - before) / count * 1e6
    name = f"broker{flushed}"
    return [
        Row(f"{name} publishes, one at a time", turns / plain, "1/s", "256 B, plain socket"),
        Row(f"{name} fenced appends, one at a time", turns / fenced, "1/s", "each on a subject of its own"),
        Row(f"{name} publishes, {_WINDOW:,} in flight", count / piped, "1/s"),
        Row(
            f"{name} fenced appends, {_WINDOW:,} in flight", count / fenced_piped, "1/s",
            f"{cpu_us:.0f} µs of the broker's CPU each",
        ),
    ]  # fmt: skip


async def _stored_by_bus(bus: Bus, amounts: Amounts, flushed: str) -> list[Row]:
    turns, share = amounts.appends_in_turn, max(1, amounts.appends // 2 // _WRITERS)

    async def write(writer: int) -> None:
        last = 0
        for _ in range(share):
            last = await _append(bus, f"bench.log.w{writer}", last)

    async def publish() -> None:
        for _ in range(share):
            await bus.publish("bench.plain", _BODY)

    async def publish_in_turn() -> None:
        for _ in range(turns):
            await bus.publish("bench.plain", _BODY)

    async def append_in_turn() -> None:
        last = 0
        for _ in range(turns):
            last = await _append(bus, "bench.log.one", last)

    plain, fenced = await _timed(publish_in_turn()), await _timed(append_in_turn())
    piped = await _timed(asyncio.gather(*(publish() for _ in range(_WRITERS))))
    fenced_piped = await _timed(asyncio.gather(*(write(writer) for writer in range(_WRITERS))))
    name, count = f"broker{flushed}", share * _WRITERS
    return [
        Row(f"{name} publishes by Bus, one at a time", turns / plain, "1/s", "256 B"),
        Row(f"{name} fenced appends by Bus, one at a time", turns / fenced, "1/s", "one log that grows"),
        Row(f"{name} publishes by Bus, {_WRITERS} in flight", count / piped, "1/s"),
        Row(f"{name} fenced appends by Bus, {_WRITERS} in flight", count / fenced_piped, "1/s", "one log per writer"),
    ]


async def _append(bus: Bus, subject: str, last: int) -> int:
    answer = await bus.append(subject, _BODY, expected=last)
    assert isinstance(answer, int)
    return answer


async def _timed(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began
