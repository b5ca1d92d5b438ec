"""Live subscriptions: core NATS, for views of what happens now."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from mesh.bus.connection import Inlet, Link, Msg
from mesh.bus.messages import LiveMessage
from mesh.errors import BusUnavailable


class LiveSubscription:
    """One live subscription of a bus."""

    def __init__(self, link: Link, inlet: Inlet, closed: Callable[[LiveSubscription], None]) -> None:
        self._link = link
        self._inlet = inlet
        self._closed = closed

    async def aclose(self) -> None:
        """Stop listening; safe to repeat."""
        self._closed(self)
        await self._link.unsubscribe(self._inlet)

    async def drain(self) -> None:
        """Stop listening once what is on its way has been taken: nobody else gets it."""
        self._closed(self)
        with suppress(BusUnavailable):
            await self._link.drain(self._inlet)


async def listen(
    link: Link,
    subject: str,
    callback: Callable[[LiveMessage], None],
    on_gap: Callable[[], None] | None,
    closed: Callable[[LiveSubscription], None],
    queue: str = "",
) -> LiveSubscription:
    """Call for every message on a subject from now on."""

    def take(message: Msg) -> None:
        callback(live_message(message))

    return LiveSubscription(link, await link.subscribe(subject, take, on_gap=on_gap, queue=queue), closed)


def live_message(message: Msg) -> LiveMessage:
    """The message without its client."""
    headers = message.headers
    if headers is None:
        return LiveMessage(message.subject, message.data, message.reply)
    return LiveMessage(
        message.subject,
        message.data,
        message.reply,
        int(headers.get("Nats-Sequence", "0")),
        int(headers.get("Nats-Last-Sequence", "0")),
    )
