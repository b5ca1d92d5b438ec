"""Requests to the broker's JetStream API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from mesh.bus.answers import ApiError, ErrorOnly, failure
from mesh.bus.connection import Msg
from mesh.bus.inbox import Inbox
from mesh.errors import BusUnavailable, MeshError
from schemas.unreadable import UNREADABLE

T = TypeVar("T")
_UNAVAILABLE = 503


class Api:
    """The `$JS.API` subjects, with JSON both ways."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def call(
        self, subject: str, body: Mapping[str, Any] | None, answer: type[T], *, patience_s: float | None = None
    ) -> T | ApiError:
        """Ask, and return the answer or the error it holds.

        While a stream has no leader nobody answers. With `patience_s` the question is asked again so often, as long as
        there is time; it must be one that changes nothing.

        Raises:
            BusUnavailable: no answer, or none that can be read.
            PermissionDenied: this user may not ask it.
        """
        full, link = f"$JS.API.{subject}", self._inbox.link
        try:
            message = await self._ask(full, msgspec.json.encode(body) if body else b"", patience_s)
            error = msgspec.json.decode(message.data, type=ErrorOnly).error
            result = error if error is not None else msgspec.json.decode(message.data, type=answer)
        except BusUnavailable:
            link.unanswered()
            raise
        except UNREADABLE as undecodable:
            raise BusUnavailable(f"{full}: an answer that cannot be read: {undecodable}") from undecodable
        if isinstance(result, ApiError) and result.code == _UNAVAILABLE:
            link.unanswered()
        else:
            link.answered()
        return result

    async def require(self, subject: str, body: Mapping[str, Any] | None, answer: type[T]) -> T:
        """Ask, and raise the error that the answer holds.

        Raises:
            MeshError: as the answer says.
        """
        result = await self.call(subject, body, answer)
        if isinstance(result, ApiError):
            raise failure(f"$JS.API.{subject}", result)
        return result

    async def drop_consumer(self, stream: str, name: str) -> None:
        """Delete a short-lived consumer; the broker forgets it by itself after some seconds if this cannot be sent."""
        with suppress(MeshError):
            await self.call(f"CONSUMER.DELETE.{stream}.{name}", None, dict[str, Any])

    async def _ask(self, subject: str, data: bytes, patience_s: float | None) -> Msg:
        if patience_s is None:
            return await self._inbox.ask(subject, data)
        now = asyncio.get_running_loop().time
        give_up = now() + self._inbox.link.timeout_s
        while True:
            asked = now()
            try:
                return await self._inbox.ask(subject, data, timeout_s=patience_s)
            except BusUnavailable:
                refused = now() < asked + patience_s
                if refused or now() + patience_s > give_up:
                    raise
