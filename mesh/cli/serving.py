"""The work of `mesh service`."""

from __future__ import annotations

import os

import structlog

from mesh.cli.options import STORE
from mesh.cli.outcome import COMPLETED, LEFT
from mesh.cli.served import Served
from mesh.find import LOCAL_URL, named_place, system_url
from mesh.runtime import Fleet, Interrupts, serve_until_signal
from mesh.service import ServiceConfig
from mesh.settings import settings_from

log = structlog.get_logger("mesh.service")


async def serve(name: str, served: Served | None, *, server: str | None, drain_s: float | None) -> int:
    """Serves until a signal; the exit code."""
    settings, place = settings_from(os.environ), named_place(server, os.environ, STORE)
    url = place.url if place else LOCAL_URL
    config = ServiceConfig(
        url=url, settings=settings, app=served.app if served else None, app_version=served.version if served else "",
        system_url=system_url(url, os.environ, STORE),
    )  # fmt: skip
    bound = log.bind(service=name, **({"app": served.app.name, "version": served.version} if served else {}))
    async with Interrupts() as interrupts:
        in_order = await serve_until_signal(
            Fleet([name], config),
            interrupts,
            drain_s=settings.drain_s if drain_s is None else drain_s,
            say=bound.info,
            started=lambda: bound.info("serving", url=url),
        )
    bound.info("stopped")
    return COMPLETED if in_order else LEFT
