"""Requests to the broker's JetStream API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from mesh.bus.answers import ApiError, ErrorOnly, failure
from mesh.bus.inbox import Inbox
from mesh.errors import BusUnavailable

T = TypeVar("T")


class Api:
    """The `$JS.API` subjects, with JSON both ways."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def call(self, subject: str, body: Mapping[str, Any] | None, answer: type[T]) -> T | ApiError:
        """Ask, and return the answer or the error it holds.

        Raises:
            BusUnavailable: no answer, or none that can be read.
            PermissionDenied: this user may not ask it.
        """
        full = f"$JS.API.{subject}"
        message = await self._inbox.ask(full, msgspec.json.encode(body) if body else b"")
        try:
            error = msgspec.json.decode(message.data, type=ErrorOnly).error
            return error if error is not None else msgspec.json.decode(message.data, type=answer)
        except msgspec.DecodeError as undecodable:
            raise BusUnavailable(f"{full}: an answer that cannot be read: {undecodable}") from undecodable

    async def require(self, subject: str, body: Mapping[str, Any] | None, answer: type[T]) -> T:
        """Ask, and raise the error that the answer holds.

        Raises:
            MeshError: as the answer says.
        """
        result = await self.call(subject, body, answer)
        if isinstance(result, ApiError):
            raise failure(f"$JS.API.{subject}", result)
        return result
