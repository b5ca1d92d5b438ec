"""Pulls deliveries of one consumer and handles each in a task of its own.

A handler returns what becomes of its delivery (`Ack`, `Nak`, `Drop`); the verb is sent here and nowhere else. While it
is held, a delivery is kept alive by one ticker for all. The one broad `except` of a service stands here.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from mesh.bus import Bus, Delivery, Puller
from mesh.errors import MeshError
from mesh.log.ops import Ack, Nak, Verdict
from mesh.streams import Consumer
from mesh.worker.tally import Tally

TICK_S: Final = 1.0
FAULT_DELAY_S: Final = 1.0
BLOCKED_S: Final = 1.0
REMAKE_S: Final = 1.0
log = structlog.get_logger("mesh.worker")


class Held:
    """One delivery while it is handled; the handler may take over its tick."""

    __slots__ = ("delivery", "on_tick", "since", "task", "ticking")

    def __init__(self, delivery: Delivery, since: float) -> None:
        self.delivery = delivery
        self.since = since
        self.on_tick: Callable[[], Awaitable[None]] = delivery.in_progress
        self.task: asyncio.Task[None] | None = None
        self.ticking = False


Handler = Callable[[Held], Awaitable[Verdict]]


class Worker:
    """`slots` deliveries at once of one consumer, until it is drained or cancelled.

    One that takes more than `longest_s` hangs, as its health then says.
    """

    def __init__(
        self,
        bus: Bus,
        consumer: Consumer,
        handler: Handler,
        *,
        slots: int,
        tick_s: float = TICK_S,
        longest_s: float = math.inf,
    ) -> None:
        self.consumer = consumer
        self.slots = slots
        self.longest_s = longest_s
        self.paused = False
        self.tally = Tally()
        self._bus = bus
        self._gone = asyncio.Event()
        self._handler = handler
        self._tick_s = tick_s
        self._puller: Puller | None = None
        self._group: asyncio.TaskGroup | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = asyncio.Event()
        self.held: dict[int, Held] = {}

    async def serve(self, started: asyncio.Event | None = None) -> None:
        """Handles deliveries until `stop`; then returns when the last one is done."""
        async with asyncio.TaskGroup() as self._group:
            self._puller = await self._bus.pull(
                self.consumer.stream, self.consumer.name, self._take, slots=self.slots, on_gone=self._gone.set
            )
            beside = [self._group.create_task(self._tick()), self._group.create_task(self._keep_consumer())]
            if started:
                started.set()
            try:
                await self._stopping.wait()
            finally:
                await self._puller.aclose()
            await self._idle.wait()
            for task in beside:
                task.cancel()

    def oldest_s(self) -> float:
        """How long the delivery that is held longest has been held."""
        now = asyncio.get_running_loop().time()
        return max((now - held.since for held in tuple(self.held.values())), default=0.0)

    def pause(self, paused: bool) -> None:
        """Takes no new deliveries while paused (a full store, a lost registry)."""
        self.paused = paused
        if self._puller and paused:
            self._puller.pause()
        elif self._puller:
            self._puller.resume()

    def stop(self) -> None:
        """Takes no new deliveries; `serve` returns when those held are done."""
        self._stopping.set()

    def _take(self, delivery: Delivery) -> None:
        assert self._group is not None
        self.tally.take()
        held = Held(delivery, asyncio.get_running_loop().time())
        self.held[id(held)] = held
        self._idle.clear()
        held.task = self._group.create_task(self._handle(held))

    async def _handle(self, held: Held) -> None:
        try:
            verdict = await self._handler(held)
        except MeshError as error:
            log.warning("delivery failed", subject=held.delivery.subject, code=error.code, error=str(error))
            verdict = Nak(FAULT_DELAY_S)
        except Exception as error:
            log.exception("delivery failed", subject=held.delivery.subject)
            self.tally.fail(error)
            verdict = Nak(FAULT_DELAY_S)
        finally:
            self.held.pop(id(held), None)
            self.tally.let_go(asyncio.get_running_loop().time() - held.since)
            if not self.held:
                self._idle.set()
            if self._puller:
                self._puller.release()
        await _send(held.delivery, verdict)

    async def _keep_consumer(self) -> None:
        """Makes the consumer again if somebody has deleted it.

        One that is there stays as the service that began last made it, or two with different settings would take turns.
        """
        while True:
            await self._gone.wait()
            self._gone.clear()
            try:
                for done in await self._bus.ensure_consumer(self.consumer, tune=False):
                    log.warning(done)
            except MeshError as error:
                log.warning("a consumer is gone", consumer=self.consumer.name, error=str(error))
            await asyncio.sleep(REMAKE_S)

    async def _tick(self) -> None:
        assert self._group is not None
        while True:
            due_at = asyncio.get_running_loop().time() + self._tick_s
            await asyncio.sleep(self._tick_s)
            late_s = asyncio.get_running_loop().time() - due_at
            # Without a delivery in hand it was no handler: an import at the start, which every worker here would tell.
            if late_s > BLOCKED_S and self.held:
                log.warning(
                    "the event loop was blocked", seconds=round(late_s, 1),
                    hint="a handler calls what blocks as `await ctx.step(name, function)`",
                )  # fmt: skip
            old = asyncio.get_running_loop().time() - self._tick_s / 2
            due = [held for held in self.held.values() if held.since < old]
            for held in due:
                if not held.ticking:
                    held.ticking = True
                    self._group.create_task(_tick_one(held))


async def _tick_one(held: Held) -> None:
    """One delivery's tick; what goes wrong with it, or takes long, must not touch the others."""
    try:
        await held.on_tick()
    except Exception:  # the ticker is a part of the loop
        log.exception("tick failed", subject=held.delivery.subject)
    finally:
        held.ticking = False


async def _send(delivery: Delivery, verdict: Verdict) -> None:
    if isinstance(verdict, Ack):
        await delivery.ack()
    elif isinstance(verdict, Nak):
        await delivery.nak(verdict.delay_s)
