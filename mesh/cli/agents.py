"""The work of `mesh agent`."""

from __future__ import annotations

import difflib
from typing import Any

import msgspec
import typer

from mesh.cli.notes import Notes
from mesh.cli.outcome import COMPLETED
from mesh.cli.places import operated
from mesh.errors import InvalidInput
from mesh.registry import Registry, read_registry
from schemas.agent import AgentRecord, AppRecord, ToolRecord


async def list_agents(*, server: str | None, json: bool) -> int:
    """Prints one line per agent; the exit code."""
    async with operated(server, "agent") as (bus, names):
        registry = await read_registry(bus, names)
    found = [(app, agent) for app in registry.apps for agent in app.agents]
    for app, agent in found:
        workers = len(registry.workers_of(app.pool))
        line = f"{agent.name:24} {app.app} {app.version}, {workers} at work  {agent.description}".rstrip()
        plain = {"app": app.app, "version": app.version, "workers": workers, "agent": agent}
        typer.echo(msgspec.json.encode(plain) if json else line)
    if not found:
        Notes().say("no agent is registered; an executor registers those of its app: `mesh dev APP`")
    return COMPLETED


async def show_agent(name: str, *, server: str | None, json: bool) -> int:
    """Prints what the registry says of one agent; the exit code."""
    async with operated(server, "agent") as (bus, names):
        registry = await read_registry(bus, names)
        app, agent = _find(name, registry)
        queued = (await bus.counts(names.runs, names.run(app.pool))).get(names.run(app.pool), 0)
    if json:
        workers = [msgspec.to_builtins(worker) for worker in registry.workers_of(app.pool)]
        plain = {"app": app.app, "pool": app.pool, "version": app.version, "at": app.at, "agent": agent}
        typer.echo(msgspec.json.encode(plain | {"workers": workers, "pool_tasks": queued}))
    else:
        typer.echo("\n".join(_in_full(app, agent, registry, queued)))
    return COMPLETED


async def remove_app(name: str, *, force: bool, server: str | None) -> int:
    """Removes an app's record, and says what becomes of its tasks; the exit code."""
    async with operated(server, "agent") as (bus, names):
        registry = await read_registry(bus, names)
        app = _app(name, registry)
        workers = [worker.worker for worker in registry.workers_of(app.pool)]
        if workers and not force:
            raise InvalidInput(
                f"app '{app.app}' is served by {', '.join(workers)}",
                hint="drain them first (a worker that was killed is forgotten within seconds), or --force",
            )
        queued = (await bus.counts(names.runs, names.run(app.pool))).get(names.run(app.pool), 0)
        await bus.remove(names.agents, app.app)
    agents = ", ".join(agent.name for agent in app.agents) or "no agent"
    typer.echo(f"app '{app.app}' is forgotten ({agents})")
    if workers:
        typer.echo(f"{', '.join(workers)} goes on with its tasks; once nobody serves it, new ones are rejected")
    else:
        typer.echo("new tasks for it are rejected, until an executor that starts with it registers it again")
        if queued:
            typer.echo(f"tasks that were accepted and wait for that, or for `mesh cancel`: {queued}")
    return COMPLETED


def _find(name: str, registry: Registry) -> tuple[AppRecord, AgentRecord]:
    for app in registry.apps:
        for agent in app.agents:
            if agent.name == name:
                return app, agent
    names = [agent.name for app in registry.apps for agent in app.agents]
    raise InvalidInput(f"no agent '{name}' is registered", hint=_near(name, names, "`mesh agent ls` lists them"))


def _app(name: str, registry: Registry) -> AppRecord:
    for app in registry.apps:
        if app.app == name:
            return app
    if any(agent.name == name for app in registry.apps for agent in app.agents):
        return _find(name, registry)[0]
    apps = [app.app for app in registry.apps]
    raise InvalidInput(f"no app or agent '{name}' is registered", hint=_near(name, apps, "`mesh agent ls` lists them"))


def _near(name: str, names: list[str], otherwise: str) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean '{near[0]}'?" if near else otherwise


def _in_full(app: AppRecord, agent: AgentRecord, registry: Registry, queued: int) -> list[str]:
    workers = [worker.worker for worker in registry.workers_of(app.pool)]
    offered = {tool.name: tool for tool in app.tools}
    return [
        f"agent {agent.name} of app {app.app} {app.version}, pool {app.pool}",
        *([f"         {agent.description}"] if agent.description else []),
        *([f"model    {agent.model}"] if agent.model else []),
        *(_tool(name, offered.get(name)) for name in agent.tools),
        f"input    {_schema(agent.input_schema)}",
        f"output   {_schema(agent.output_schema)}",
        f"workers  {', '.join(workers) or 'none: its tasks are accepted and wait'}",
        f"queue    tasks of the pool that wait or run: {queued}",
    ]


def _tool(name: str, tool: ToolRecord | None) -> str:
    about = f"  {tool.description.partition(chr(10))[0]}" if tool and tool.description else ""
    return f"tool     {name}{about}"


def _schema(schema: dict[str, Any] | None) -> str:
    return "anything" if not schema else msgspec.json.encode(schema).decode()
