"""The work of `mesh doctor` and `mesh agents`."""

from __future__ import annotations

import os
import sys
from typing import Final

import msgspec
import typer

from mesh.cli.options import STORE
from mesh.cli.outcome import COMPLETED, FAILED
from mesh.cli.places import connected_bus
from mesh.doctor import Finding, State, examine
from mesh.errors import InvalidInput
from mesh.find import LOCAL_URL, named_place
from mesh.logs import colourful
from mesh.probe import require_mesh
from mesh.registry import Registry, read_registry
from mesh.settings import settings_from
from mesh.subjects import Subjects

COLOURS: Final[dict[State, str]] = {"ok": "green", "note": "cyan", "problem": "red"}


async def examine_mesh(*, server: str | None, apply: bool, json: bool) -> int:
    """Prints each finding as it comes; the exit code."""
    settings, problems = settings_from(os.environ), 0
    async with connected_bus(_url(server), "doctor") as bus:
        async for finding in examine(bus, settings, apply=apply):
            problems += finding.state == "problem"
            typer.echo(msgspec.json.encode(finding) if json else _in_words(finding))
    return FAILED if problems else COMPLETED


async def list_agents(*, server: str | None, forget: str | None, json: bool) -> int:
    """Prints the registered agents, or removes an app's record; the exit code."""
    names = Subjects(settings_from(os.environ).prefix)
    async with connected_bus(_url(server), "agents") as bus:
        await require_mesh(bus, names)
        registry = await read_registry(bus, names)
        if forget is not None:
            _check_forgettable(forget, registry)
            await bus.remove(names.agents, forget)
            typer.echo(f"app '{forget}' is forgotten; an executor that starts with it registers it again")
            return COMPLETED
    for app in registry.apps:
        workers = len(registry.workers_of(app.pool))
        for agent in app.agents:
            line = f"{agent.name:24} {app.app} {app.version}, {workers} at work  {agent.description}".rstrip()
            plain = {"app": app.app, "version": app.version, "workers": workers, "agent": agent}
            typer.echo(msgspec.json.encode(plain) if json else line)
    return COMPLETED


def _check_forgettable(name: str, registry: Registry) -> None:
    app = next((app for app in registry.apps if app.app == name), None)
    if app is None:
        raise InvalidInput(f"no app '{name}' is registered", hint="`mesh agents` lists them")
    if workers := registry.workers_of(app.pool):
        raise InvalidInput(
            f"app '{name}' is served by {', '.join(one.worker for one in workers)}",
            hint="stop them first; a worker that was killed is forgotten by itself within seconds",
        )


def _url(server: str | None) -> str:
    place = named_place(server, os.environ, STORE)
    return place.url if place else LOCAL_URL


def _in_words(finding: Finding) -> str:
    state = f"{finding.state:7}"
    if colourful(sys.stdout, os.environ):
        state = typer.style(state, fg=COLOURS[finding.state])
    cure = f"\n{'':9}→ {finding.cure}" if finding.cure else ""
    return f"{state}  {finding.what}: {finding.message}{cure}"
