"""Writes the app's record; an agent's name belongs to one app."""

from __future__ import annotations

import msgspec
import structlog

from mesh.agents.app import Mesh
from mesh.bus import Bus
from mesh.clock import SystemClock
from mesh.errors import AppError
from schemas.agent import AppRecord
from schemas.envelope import VERSION
from schemas.instant import rfc3339
from schemas.unreadable import UNREADABLE

log = structlog.get_logger("mesh.executor")


async def register(bus: Bus, bucket: str, app: Mesh, version: str) -> None:
    """Puts the app into the registry; raises AppError if another app has one of its names."""
    await _refuse_clash(bus, bucket, app)
    record = AppRecord(
        v=VERSION, app=app.name, pool=app.pool, version=version, at=rfc3339(SystemClock().now()),
        agents=tuple(agent.record() for agent in app.agents.values()),
        tools=tuple(tool.record() for tool in app.tools.values()),
    )  # fmt: skip
    await bus.put(bucket, app.name, msgspec.json.encode(record))
    # Another app may have written at the same moment: whoever looks after its own write sees it.
    await _refuse_clash(bus, bucket, app)


async def _refuse_clash(bus: Bus, bucket: str, app: Mesh) -> None:
    for key in await bus.keys(bucket):
        body = await bus.fetch(bucket, key)
        if body is None or key == app.name:
            continue
        try:
            other = msgspec.json.decode(body, type=AppRecord)
        except UNREADABLE as error:
            log.warning("registry entry cannot be read", key=key, error=str(error))
            continue
        taken = sorted({agent.name for agent in other.agents} & set(app.agents))
        if taken:
            raise AppError(
                f"agent '{taken[0]}' of app '{app.name}' is registered by app '{other.app}' already",
                hint=f"rename one, or, if that app is gone, drop its record with `mesh agent rm {other.app}`",
            )
