"""One delivery of a work queue, and the verbs that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from mesh.bus.connection import Msg
from mesh.bus.inbox import Inbox
from mesh.bus.messages import Observer
from mesh.bus.scan import parse_ack
from mesh.errors import BusUnavailable, PermissionDenied

_CONFIRM_S = 1.0


class Verbs:
    """Sends what a worker answers to its deliveries, by the connection of `inbox`; theirs may be down."""

    def __init__(self, inbox: Inbox, observer: Observer | None) -> None:
        self._inbox = inbox
        self._observer = observer

    async def send(self, reply: str, verb: bytes) -> None:
        """Send now or never: a verb that comes late may hit another worker's delivery."""
        with suppress(BusUnavailable):
            await self._inbox.link.publish(reply, verb)

    async def ack(self, subject: str, reply: str) -> None:
        """Acknowledge; the one verb that crash tests look at."""
        if self._observer is not None:
            self._observer.before("ack", subject)
        await self.send(reply, b"+ACK")
        if self._observer is not None:
            self._observer.after("ack", subject)

    async def confirm(self, reply: str) -> bool:
        """Ask for the broker's answer to an in-progress."""
        try:
            await self._inbox.ask(reply, b"+WPI", timeout_s=_CONFIRM_S)
        except (BusUnavailable, PermissionDenied):
            return False
        return True


class Delivery:
    """One message of a work queue, held until it is answered or its time runs out.

    `seq` is its stream sequence, `delivered` counts from 1, `at` is when the broker stored it (seconds since 1970;
    `at_ms` the same in whole milliseconds, which a float would round), `pending` is how many more match the consumer.
    While the broker is out of reach every verb is silently dropped; the queue delivers the message again.
    """

    __slots__ = ("_message", "_verbs", "at", "at_ms", "data", "delivered", "pending", "seq", "subject")

    def __init__(self, verbs: Verbs, message: Msg) -> None:
        ack = parse_ack(message.reply)
        self._verbs = verbs
        self._message = message
        self.subject: str = message.subject
        self.data: bytes = message.data
        self.seq = ack.stream_seq
        self.delivered = ack.delivered
        self.at = ack.time_ns / 1e9
        self.at_ms = ack.time_ns // 1_000_000
        self.pending = ack.pending

    @property
    def headers(self) -> Mapping[str, str] | None:
        """The headers it was published with."""
        return self._message.headers

    @property
    def reply(self) -> str:
        """Where its verbs are sent, by its holder or in its place."""
        return self._message.reply

    async def ack(self) -> None:
        """Remove the message from the queue."""
        await self._verbs.ack(self.subject, self._message.reply)

    async def nak(self, delay_s: float = 0.0) -> None:
        """Give the message back, to be delivered again after `delay_s`."""
        verb = b'-NAK {"delay": %d}' % int(delay_s * 1e9) if delay_s > 0 else b"-NAK"
        await self._verbs.send(self._message.reply, verb)

    async def in_progress(self) -> None:
        """Say that work goes on, which starts the time to answer anew."""
        await self._verbs.send(self._message.reply, b"+WPI")

    async def confirm(self) -> bool:
        """Say that work goes on, and whether the broker answered."""
        return await self._verbs.confirm(self._message.reply)
