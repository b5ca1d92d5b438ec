"""What tests of tool calls share: a task whose handler is the test's own, and tools that fail by a list."""

from __future__ import annotations

from typing import Any

from mesh import Mesh, ToolContext
from mesh.testing import eventually
from tests.integration.world import Outcome, World


async def run(world: World, app: Mesh, handler: Any, value: Any = None) -> Outcome:
    """Serves the handler and the tools of the app, and waits for one task and for its last command."""
    app.agent(name="a")(handler)
    await world.runner(app)
    await world.serve(app)
    task = await world.client.submit("a", value)
    outcome = await world.outcome(task.id)
    await eventually(world.queue_is_empty)
    return outcome


def data_of(outcome: Outcome, kind: type) -> list[Any]:
    """The events of one kind in a task's log."""
    return [event.data for entry in outcome.entries for event in entry.commit.events if isinstance(event.data, kind)]


def failing(app: Mesh, name: str, *errors: Any, **policy: Any) -> list[str]:
    """A tool that raises these one after the other and then succeeds; the keys that it was given."""
    keys: list[str] = []
    left = list(errors)

    @app.tool(name=name, backoff_s=0.01, **policy)
    async def tool(ctx: ToolContext) -> str:
        keys.append(ctx.idempotency_key)
        if left:
            raise left.pop(0)
        return f"attempt {ctx.attempt}"

    return keys
