"""The models that one executor asks, and the definitions of its app's model agents."""

from __future__ import annotations

import os
from random import Random

import msgspec
import structlog

from mesh.agents.app import Mesh
from mesh.agents.model_step import ModelAccess
from mesh.log.large import Objects
from mesh.models import Model, Models, Retrying

log = structlog.get_logger("mesh.executor")


class AppModels:
    """The models of an app: its scripts, and what the environment has keys for; providers are loaded when asked."""

    def __init__(self, app: Mesh, given: Model | None) -> None:
        self._app = app
        self._own = Models(environ=os.environ, scripts=app.scripts)
        self._given = given is not None
        self.access = ModelAccess(given or Retrying(self._own, random=Random()))

    async def look(self) -> None:
        """Warns of every agent whose model cannot be asked; only its tasks will fail."""
        for agent in self._app.agents.values():
            if self._given or agent.model_agent is None:
                continue
            problem = await self._own.problem(agent.model_agent.model, agent.model_agent.endpoint)
            if problem is not None:
                log.warning("the model of an agent cannot be asked", agent=agent.name, error=str(problem))

    async def aclose(self) -> None:
        """Closes the connections to providers."""
        await self._own.aclose()


async def keep_definitions(app: Mesh, objects: Objects) -> str:
    """Keeps the definitions of all model agents of an app in one object; its digest, empty if there are none."""
    agents = {agent.name: agent.model_agent.definition() for agent in app.agents.values() if agent.model_agent}
    if not agents:
        return ""
    body = msgspec.json.encode({name: msgspec.Raw(agents[name]) for name in sorted(agents)})
    return (await objects.put(body)).digest
