"""The work of `mesh dev`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from mesh.cli.notes import Notes
from mesh.cli.outcome import COMPLETED, LEFT
from mesh.cli.places import database_on
from mesh.cli.served import Served, demo_in_words
from mesh.errors import PortTaken
from mesh.find import PORT, system_url
from mesh.runtime import Fleet, Interrupts, embedded, serve_until_signal
from mesh.server import EmbeddedServer
from mesh.service import ServiceConfig, services_of
from mesh.settings import settings_from


async def develop(served: Served, *, store: Path, port: int | None, drain_s: float | None) -> int:
    """Serves until a signal; the exit code."""
    settings, notes = settings_from(os.environ), Notes()
    async with Interrupts() as interrupts:
        interrupts.cancelling(asyncio.current_task())
        async with _broker(store, port, settings.profile, notes) as url:
            config = ServiceConfig(
                url=url, settings=settings, app=served.app, app_version=served.version,
                system_url=system_url(url, os.environ, store), database=database_on(store),
            )  # fmt: skip
            interrupts.cancelling(None)
            in_order = await serve_until_signal(
                Fleet(["router", "session-store", *services_of(served.app)], config),
                interrupts,
                drain_s=settings.drain_s if drain_s is None else drain_s,
                say=notes.warn,
                started=lambda: notes.say(_banner(served, url, store)),
            )
    return COMPLETED if in_order else LEFT


@asynccontextmanager
async def _broker(store: Path, port: int | None, profile: str, notes: Notes) -> AsyncIterator[str]:
    async with AsyncExitStack() as stack:
        first, other = (EmbeddedServer(store, port=port, durability=profile) for port in (port or PORT, None))
        try:
            url = await stack.enter_async_context(embedded(first, notes.warn))
        except PortTaken:
            if port is not None:
                raise
            url = await stack.enter_async_context(embedded(other, notes.warn))
            notes.warn(f"port {PORT} is taken by another program, so this mesh listens on {url}")
            notes.warn(f"commands started in this folder find it; elsewhere: --server {url}, or MESH_SERVER={url}")
        yield url


def _banner(served: Served, url: str, store: Path) -> str:
    lines = [
        f"mesh is ready at {url}, data in {store}",
        f"app    {served.app.name} {served.version}" + ("" if served.target else f"  (built-in, {demo_in_words()})"),
        f"agents {served.agents}",
        f"try    mesh run {served.example}",
    ]
    if served.target is None and Path("app.py").is_file():
        lines.append("there is an app.py here; to serve it: mesh dev app.py")
    return "\n".join([*lines, "Ctrl-C stops"])
