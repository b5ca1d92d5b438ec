"""The models that one executor asks, and the definitions of its app's model agents."""

from __future__ import annotations

import os
from random import Random
from typing import Final

import structlog

from mesh.agents.app import Mesh
from mesh.agents.model_step import Definitions, ModelAccess
from mesh.log.large import Objects
from mesh.models import Model, Models, Retrying

# Their first request in a process takes half a second to build its types.
RESPONSES: Final = frozenset({"openai", "openai-responses"})
log = structlog.get_logger("mesh.executor")


class AppModels:
    """The models of an app: its scripts, and what the environment has keys for; providers are loaded when asked."""

    def __init__(self, app: Mesh, given: Model | None) -> None:
        self._app = app
        self._own = Models(environ=os.environ, scripts=app.scripts)
        self._given = given is not None
        self.problems: list[str] = []
        self.access = ModelAccess(given or Retrying(self._own, random=Random()))

    async def look(self) -> None:
        """Warns of every agent whose model cannot be asked, and warms up for the others; only its tasks will fail."""
        slow = False
        for agent in self._app.agents.values():
            if self._given or agent.model_agent is None:
                continue
            model = agent.model_agent.model
            problem = await self._own.problem(model, agent.model_agent.endpoint)
            if problem is not None:
                log.warning("the model of an agent cannot be asked", agent=agent.name, error=str(problem))
                self.problems.append(f"agent '{agent.name}' cannot ask its model: {problem}")
            elif model.partition(":")[0] in RESPONSES:
                slow = True
        if slow:
            await self._own.warm_up()

    async def aclose(self) -> None:
        """Closes the connections to providers."""
        await self._own.aclose()


async def keep_definitions(app: Mesh, definitions: Definitions, objects: Objects) -> dict[str, str]:
    """Keeps the definition of each model agent of an app; their digests by the agents' names."""
    agents = {agent.name: agent.model_agent for agent in app.agents.values() if agent.model_agent}
    return {name: await definitions.keep(agent.definition(), objects.put) for name, agent in agents.items()}
