"""Continuous pull: a work queue's deliveries, never more than there is room for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from mesh.bus.connection import Inlet, Link, Msg
from mesh.bus.delivery import Delivery, Verbs
from mesh.bus.ending import end
from mesh.errors import MeshError

_log = logging.getLogger(__name__)
_EXPIRES_S = 30.0
_HEARTBEAT_S = 2.0
_BACKOFF_S = (0.02, 0.1, 0.5, 1.0)
_SECOND_NS = 1_000_000_000

_NO_RESPONDERS = "503"
_HEARTBEAT = "100"
_TIMED_OUT = "408"


class Puller:
    """Keeps a consumer's deliveries coming, one slot each, until it is closed.

    A slot is taken by each delivery and stays taken until `release`. What has been asked for and what is in the slots
    never exceeds the slots; a request that is lost with its connection, its consumer or its heartbeats gives its
    slots back. There may be more or fewer of them at any time; what was asked for still comes.
    """

    def __init__(
        self,
        link: Link,
        verbs: Verbs,
        subject: str,
        handler: Callable[[Delivery], None],
        *,
        slots: int,
        heartbeat_s: float = _HEARTBEAT_S,
        on_gone: Callable[[], None] | None = None,
        on_idle: Callable[[], None] | None = None,
    ) -> None:
        self.in_flight = 0
        self._link = link
        self._verbs = verbs
        self._subject = subject
        self._handler = handler
        self.slots = slots
        self._heartbeat_s = heartbeat_s
        self._on_gone = on_gone
        self._on_idle = on_idle
        self._paused = False
        self._closing = False
        self._wake = asyncio.Event()
        self._generation = 0
        self._count = 0
        self._asked: dict[str, int] = {}
        self._outstanding = 0
        self._heard_at = 0.0
        self._failures = 0
        self._not_before = 0.0
        self._returned: list[Delivery] = []
        self._inlet: Inlet | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Subscribe and begin to ask.

        Raises:
            BusUnavailable: there is no connection.
        """
        await self._listen()
        self._task = asyncio.create_task(self._run(), name=f"pull {self._subject}")
        self._wake.set()

    def release(self) -> None:
        """Say that a slot is free again."""
        self.in_flight -= 1
        if self._wanted():
            self._wake.set()

    def pause(self) -> None:
        """Ask for no more; what has been asked for may still arrive."""
        self._paused = True

    def resume(self) -> None:
        """Ask again."""
        self._paused = False
        self._wake.set()

    async def aclose(self) -> None:
        """Stop; what arrives until the broker knows goes back to the queue at once."""
        self._closing = True
        task, self._task = self._task, None
        try:
            if task is not None:
                await end(task)
        finally:
            await self._give_back()

    async def _give_back(self) -> None:
        inlet, self._inlet = self._inlet, None
        if inlet is not None:
            with suppress(MeshError):
                await self._link.drain(inlet)
        for delivery in self._returned:
            await delivery.nak()

    async def _run(self) -> None:
        while True:
            await self._next_wake()
            try:
                if self._outstanding and self._silent():
                    await self._recover()
                count = self._wanted()
                if count:
                    await self._ask(count)
            except MeshError as error:
                # The reconnect, or the next heartbeat's time, brings us here again.
                _log.debug("pull waits: %s", error)

    async def _next_wake(self) -> None:
        timer = asyncio.get_running_loop().call_later(self._heartbeat_s, self._wake.set)
        try:
            await self._wake.wait()
            delay = self._not_before - asyncio.get_running_loop().time()
            if delay > 0:
                await asyncio.sleep(delay)
        finally:
            timer.cancel()
        self._wake.clear()

    def _wanted(self) -> int:
        """How many to ask for now: in halves of the slots, so that a request is worth its price."""
        if self._paused or self._closing:
            return 0
        free = self.slots - self.in_flight - self._outstanding
        if free <= 0 or (free * 2 < self.slots and self._outstanding):
            return 0
        return free

    async def _ask(self, count: int) -> None:
        self._count += 1
        token = str(self._count)
        body = msgspec.json.encode(
            {
                "batch": count,
                "expires": int(_EXPIRES_S * _SECOND_NS),
                "idle_heartbeat": int(self._heartbeat_s * _SECOND_NS),
            }
        )
        self._asked[token] = count
        self._outstanding += count
        self._heard_at = asyncio.get_running_loop().time()
        try:
            await self._link.publish(self._subject, body, reply=f"{self._inbox()}.{token}")
        except MeshError:
            self._settle(token, count)
            raise

    def _take(self, message: Msg) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        if not message.reply:
            self._take_status(message)
            return
        self._failures = 0
        self._link.answered()
        self._spend()
        delivery = Delivery(self._verbs, message)
        if self._closing:
            self._returned.append(delivery)
            return
        self.in_flight += 1
        if not self._outstanding:
            self._wake.set()
        self._handler(delivery)

    def _take_status(self, message: Msg) -> None:
        headers: Mapping[str, str] = message.headers or {}
        status = headers.get("Status", "")
        if status == _HEARTBEAT:
            self._link.answered()
            if self._on_idle is not None:
                self._on_idle()
            return
        token = message.subject.rpartition(".")[2]
        left = headers.get("Nats-Pending-Messages")
        self._settle(token, int(left) if left is not None else self._asked.get(token, 0))
        if status == _TIMED_OUT:
            self._failures = 0
        else:
            self._back_off(status, headers.get("Description", ""))
        self._wake.set()

    def _back_off(self, status: str, description: str) -> None:
        delay = _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
        self._not_before = asyncio.get_running_loop().time() + delay
        self._failures += 1
        level = logging.WARNING if self._failures == len(_BACKOFF_S) else logging.DEBUG
        _log.log(level, "the broker ended a pull: %s %s", status, description, extra={"subject": self._subject})
        if status == _NO_RESPONDERS:
            self._link.unanswered()
        if self._on_gone is not None and (status == _NO_RESPONDERS or "consumer deleted" in description.lower()):
            self._on_gone()

    def _spend(self) -> None:
        """Book one delivery; which request it answers is not said, so the oldest is charged."""
        for token, left in self._asked.items():
            if left > 1:
                self._asked[token] = left - 1
            else:
                del self._asked[token]
            self._outstanding -= 1
            return

    def _settle(self, token: str, left: int) -> None:
        """Book the end of a request with `left` undelivered.

        Deliveries were charged to the oldest request, so this one may have been charged too much or too little: the
        difference goes to the others.
        """
        surplus = left - self._asked.pop(token, 0)
        while surplus > 0 and self._asked:
            other = next(iter(self._asked))
            charged = min(surplus, self._asked[other])
            surplus -= charged
            if charged == self._asked[other]:
                del self._asked[other]
            else:
                self._asked[other] -= charged
        if surplus < 0 and self._asked:
            self._asked[next(reversed(self._asked))] -= surplus
        self._outstanding = sum(self._asked.values())

    def _silent(self) -> bool:
        return asyncio.get_running_loop().time() - self._heard_at > 2 * self._heartbeat_s

    async def _recover(self) -> None:
        """Replace requests that the broker no longer knows.

        After a round trip everything the broker had sent has been taken, so silence is then no delay of our own. The
        old inbox is given up, or a request that lives after all would fill slots twice.
        """
        await self._link.flush()
        if not self._silent():
            return
        _log.info("heartbeats are missing, asking again", extra={"subject": self._subject})
        self._link.unanswered()
        inlet, self._inlet = self._inlet, None
        if inlet is not None:
            await self._link.unsubscribe(inlet)
        self._forget()
        await self._listen()

    async def _listen(self) -> None:
        self._generation += 1
        self._inlet = await self._link.subscribe(f"{self._inbox()}.*", self._take, on_gap=self._reconnected)

    def _inbox(self) -> str:
        return f"{self._link.inbox}.pull{id(self):x}.{self._generation}"

    def _forget(self) -> None:
        self._asked.clear()
        self._outstanding = 0

    def _reconnected(self) -> None:
        self._forget()
        self._not_before = 0.0
        self._wake.set()
        if self._on_gone is not None:
            self._on_gone()
