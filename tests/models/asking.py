"""Asks a model and keeps what came."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from mesh.errors import MeshError
from mesh.models import Model, ModelAnswer, ModelDelta, ModelEvent, ModelRequest
from schemas.message import Message, user_message
from tests.models.server import ProviderServer
from tests.models.wires import Wire

HELLO = (user_message("hello"),)


class Asking:
    """The provider code, the server behind it, and the protocol between them."""

    def __init__(self, model: Model, server: ProviderServer, wire: Wire) -> None:
        self.model = model
        self.server = server
        self.wire = wire

    def request(self, messages: tuple[Message, ...] = HELLO, **given: Any) -> ModelRequest:
        return ModelRequest(model=f"{self.wire.prefix}:gpt-5-mini", messages=messages, **given)

    async def events(self, request: ModelRequest | None = None) -> list[ModelEvent]:
        return await events_of(self.model, request or self.request())

    async def message(self, request: ModelRequest | None = None) -> Message:
        return message_of(await self.events(request))


async def events_of(model: Model, request: ModelRequest) -> list[ModelEvent]:
    async with aclosing(model.stream(request)) as events:
        return [event async for event in events]


async def until_error(model: Model, request: ModelRequest) -> tuple[list[ModelEvent], Exception | None]:
    """What came before the error, and the error."""
    events: list[ModelEvent] = []
    try:
        async with aclosing(model.stream(request)) as stream:
            async for event in stream:
                events.append(event)
    except MeshError as error:
        return events, error
    return events, None


def message_of(events: list[ModelEvent]) -> Message:
    *_, answer = events
    assert isinstance(answer, ModelAnswer)
    return answer.message


def deltas_of(events: list[ModelEvent]) -> list[ModelDelta]:
    return [event for event in events if isinstance(event, ModelDelta)]


def joined(events: list[ModelEvent], part: int) -> str:
    return "".join(delta.text for delta in deltas_of(events) if delta.part == part)
