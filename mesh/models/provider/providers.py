"""The providers of one process and loop: models by name, over one HTTP client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing

import httpx2
from pydantic_ai.models import create_async_httpx2_client

from mesh.models.api import Endpoint, ModelEvent, ModelRequest
from mesh.models.provider.conversion import Origin
from mesh.models.provider.endpoints import key_source, make_model, own_host
from mesh.models.provider.streaming import Target, stream_answer


class Providers:
    """Asks real models; a model of our protocol.

    Its one HTTP client keeps connections alive for all of them, and is closed with it. `client` is for tests.
    """

    def __init__(self, environ: Mapping[str, str], *, client: httpx2.AsyncClient | None = None) -> None:
        self._environ = environ
        self._client = client or create_async_httpx2_client()
        self._targets: dict[tuple[str, Endpoint], Target] = {}
        self._rehearsed: set[str] = set()
        self._making = asyncio.Lock()
        self._open = AsyncExitStack()
        self._open.push_async_callback(self._client.aclose)

    async def target(self, name: str, endpoint: Endpoint) -> Target:
        """The model of this name, made once; raises ModelNotConfigured."""
        async with self._making:
            known = self._targets.get((name, endpoint))
            if known is None:
                known = self._targets[name, endpoint] = await self._make(name, endpoint)
            return known

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Asks the request's model."""
        target = await self.target(request.model, request.endpoint)
        async with aclosing(stream_answer(target, request)) as events:
            async for event in events:
                yield event

    async def _make(self, name: str, endpoint: Endpoint) -> Target:
        prefix = name.partition(":")[0]
        if prefix not in self._rehearsed:
            await asyncio.to_thread(_rehearse, name, endpoint, self._environ)
            self._rehearsed.add(prefix)
        model = make_model(name, endpoint, self._environ, self._client)
        # Some SDKs take no client of ours; theirs is closed with ours.
        await self._open.enter_async_context(model)
        host = own_host(name, endpoint, self._environ)
        origin = Origin(
            provider=f"{model.system}@{host}" if host else model.system, api=type(model).__name__.removesuffix("Model")
        )
        return Target(model=model, origin=origin, key=key_source(name, endpoint))

    async def aclose(self) -> None:
        """Closes every connection; a stream that is being read breaks."""
        await self._open.aclose()


def _rehearse(name: str, endpoint: Endpoint, environ: Mapping[str, str]) -> None:
    """Makes the model once and throws it away, in a loop of its own; call it in a thread.

    The first model of a provider imports its SDK, for half a second and more: on the worker's loop that would hold up
    its heartbeats, and every cancel.
    """

    async def make() -> None:
        async with httpx2.AsyncClient() as client, make_model(name, endpoint, environ, client):
            pass

    asyncio.run(make())
