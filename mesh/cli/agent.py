"""`mesh agent`: who can be called."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import options

LS_EXAMPLES = """\b
Examples:
  mesh agent ls
  mesh agent ls --json | jq -r .agent.name
"""
SHOW_EXAMPLES = """\b
Examples:
  mesh agent show report
  mesh agent show report --json | jq .agent.input_schema
"""
RM_EXAMPLES = """\b
Examples:
  mesh agent rm shop            remove the record of an app that is gone
  mesh agent rm report          the same, by one of its agents
  mesh agent rm shop --force    also while a worker serves it

A record is one of an app, with all its agents. Once nobody serves the app, new tasks for them are rejected without it;
what was accepted before waits for a worker, which registers the app again when it starts.
"""

group = typer.Typer(help="List, show and forget agents.", no_args_is_help=True, rich_markup_mode=None)
Agent = Annotated[str, typer.Argument(metavar="AGENT", help="Its name.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    group.command("ls", epilog=LS_EXAMPLES)(ls)
    group.command("show", epilog=SHOW_EXAMPLES)(show)
    group.command("rm", epilog=RM_EXAMPLES)(rm)
    app.add_typer(group, name="agent")


def ls(server: options.Server = None, json: options.Json = False) -> None:
    """List the agents that are registered."""
    from mesh.cli.agents import list_agents
    from mesh.cli.outcome import leave_with

    leave_with(list_agents(server=server, json=json))


def show(agent: Agent, server: options.Server = None, json: options.Json = False) -> None:
    """Show what an agent takes and gives, and who serves it."""
    from mesh.cli.agents import show_agent
    from mesh.cli.outcome import leave_with

    leave_with(show_agent(agent, server=server, json=json))


def rm(
    name: Annotated[str, typer.Argument(metavar="APP", help="An app, or one of its agents.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Also while workers serve it.")] = False,
    server: options.Server = None,
) -> None:
    """Remove the registry's record of an app."""
    from mesh.cli.agents import remove_app
    from mesh.cli.outcome import leave_with

    leave_with(remove_app(name, force=force, server=server))
