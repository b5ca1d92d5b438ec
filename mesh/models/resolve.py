"""Every model of one process, asked by name."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

from mesh.errors import ModelNotConfigured
from mesh.models.api import Endpoint, Model, ModelEvent, ModelRequest
from mesh.models.scripted import PROVIDER as SCRIPTED

if TYPE_CHECKING:
    from mesh.models.provider import Providers


class Scripts:
    """The scripted models of an app, and nothing else: nobody is asked and no provider's code is imported."""

    def __init__(self, scripts: Mapping[str, Model]) -> None:
        self._scripts = dict(scripts)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Asks the script that the request names; raises ModelNotConfigured if it names none."""
        model = self.find(request.model)
        if model is None:
            raise ModelNotConfigured(
                f"'{request.model}' is not asked here", hint="pass models=, such as a ScriptedModel, to what calls this"
            )
        async with aclosing(model.stream(request)) as events:
            async for event in events:
                yield event

    def find(self, name: str) -> Model | None:
        """The script that a name means; None if it means a provider's model. Raises ModelNotConfigured."""
        prefix, _, script = name.partition(":")
        if prefix != SCRIPTED:
            return None
        if script in self._scripts:
            return self._scripts[script]
        near = difflib.get_close_matches(script, self._scripts, n=1)
        raise ModelNotConfigured(
            f"'{name}' names no script of this app", hint=f"did you mean {SCRIPTED}:{near[0]}?" if near else None
        )


class Models:
    """Answers a request with the model that it names: `scripted:<script>`, or `<provider>:<model>`.

    One belongs to one process and one loop. Providers' code is imported, in a thread, when the first request for a
    provider comes; close this when the last stream has ended.
    """

    def __init__(self, *, environ: Mapping[str, str], scripts: Mapping[str, Model] | None = None) -> None:
        self._environ = environ
        self._scripts = Scripts(scripts or {})
        self._providers: Providers | None = None
        self._importing = asyncio.Lock()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Asks the request's model; raises ModelNotConfigured if there is none."""
        model = self._scripts.find(request.model) or await self._imported()
        async with aclosing(model.stream(request)) as events:
            async for event in events:
                yield event

    async def problem(self, name: str, endpoint: Endpoint = Endpoint()) -> ModelNotConfigured | None:  # noqa: B008
        """What a task of this model would fail with; None if it can be asked.

        For warnings at the start: a missing key stops nobody but the task that needs it.
        """
        try:
            if self._scripts.find(name) is None:
                await (await self._imported()).target(name, endpoint)
        except ModelNotConfigured as error:
            return error
        return None

    async def warm_up(self) -> None:
        """Makes the slow first request of this process, in a thread; worth it where providers are used."""
        await self._imported()
        await asyncio.to_thread(_warm_up)

    async def aclose(self) -> None:
        """Closes the connections to providers; the next request would open new ones."""
        providers, self._providers = self._providers, None
        if providers is not None:
            await providers.aclose()

    async def _imported(self) -> Providers:
        async with self._importing:
            if self._providers is None:
                self._providers = await asyncio.to_thread(_import_providers, self._environ)
            return self._providers


def _import_providers(environ: Mapping[str, str]) -> Providers:
    from mesh.models.provider import Providers

    return Providers(environ)


def _warm_up() -> None:
    from mesh.models.provider import warm_up

    warm_up()
