"""Everybody's answer to one question."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Final, TypeVar

import msgspec

from mesh.bus import Bus, LiveMessage
from schemas.unreadable import UNREADABLE

WITHIN_S: Final = 0.6
T = TypeVar("T")


async def census(bus: Bus, subject: str, kind: type[T], *, within_s: float = WITHIN_S) -> list[T]:
    """What came in that time, without what cannot be read as `kind`.

    Nobody knows how many will answer, so all of the time is waited for.

    Raises: BusUnavailable, PermissionDenied.
    """
    answers: list[T] = []

    def take(message: LiveMessage) -> None:
        try:
            answers.append(msgspec.json.decode(message.data, type=kind))
        except UNREADABLE:
            return

    inbox = bus.new_inbox()
    async with aclosing(await bus.subscribe(inbox, take)):
        await bus.send(subject, b"", reply=inbox)
        await asyncio.sleep(within_s)
    return answers
