"""What a program that reads stdout wants of a task: its text as it comes, or its output alone."""

from __future__ import annotations

from typing import Final

from mesh.cli.places import connected_bus
from mesh.log.reading import read_log
from mesh.registry import read_registry
from mesh.subjects import Subjects
from schemas.task import TaskAccepted

TEXT_OR_NOTHING: Final = ("string", "null")


async def writes_text(url: str, names: Subjects, id: str) -> bool:
    """Whether the output of a task's agent is text, or none is known of; otherwise it is data.

    Raises: BusUnavailable.
    """
    async with connected_bus(url, "output") as bus:
        opening = (await read_log(bus, names, id))[0].commit.events[0].data
        registry = await read_registry(bus, names)
    if not isinstance(opening, TaskAccepted):
        return True
    agents = [agent for app in registry.apps if app.pool == opening.pool for agent in app.agents]
    schema = next((agent.output_schema for agent in agents if agent.name == opening.agent), None)
    return schema is None or schema.get("type") in TEXT_OR_NOTHING
