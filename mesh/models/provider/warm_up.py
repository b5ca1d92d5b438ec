"""Makes the slow first request of a process before there is work."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Final

import httpx2

from mesh.models.api import Endpoint, ModelRequest
from mesh.models.provider.providers import Providers
from schemas.message import user_message

_RESPONSE: Final = (
    '{"id":"r","object":"response","created_at":0,"model":"m","output":[],"parallel_tool_calls":true,'
    '"tool_choice":"auto","tools":[],"status":'
)
_ITEM: Final = '"item_id":"i","output_index":0,"content_index":0'
_STREAM: Final = (
    ("response.created", f'"response":{_RESPONSE}"in_progress"}}'),
    ("response.output_text.delta", f'{_ITEM},"delta":"ok","logprobs":[]'),
    ("response.completed", f'"response":{_RESPONSE}"completed"}}'),
)


class _Canned(httpx2.AsyncBaseTransport):
    """Answers every request with the same stream, without a network."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        events = (
            f'event: {kind}\ndata: {{"type":"{kind}","sequence_number":{number},{data}}}\n\n'
            for number, (kind, data) in enumerate(_STREAM)
        )
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, text="".join(events))


def warm_up() -> None:
    """Makes one whole request over a canned stream, in a loop of its own; call it in a thread.

    The first request of the Responses API builds the SDK's types for about 0.4 s; on the worker's loop that would
    delay its heartbeats.
    """
    asyncio.run(_request())


async def _request() -> None:
    providers = Providers({}, client=httpx2.AsyncClient(transport=_Canned()))
    request = ModelRequest(
        model="openai:warm-up", messages=(user_message("hi"),), endpoint=Endpoint(base_url="http://warm-up.invalid")
    )
    try:
        async with aclosing(providers.stream(request)) as events:
            async for _ in events:
                pass
    finally:
        await providers.aclose()
