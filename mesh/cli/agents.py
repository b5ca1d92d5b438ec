"""`mesh agents`: who can be called."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import options

EXAMPLES = """\b
Examples:
  mesh agents
  mesh agents --forget shop      remove the record of an app that is gone
"""


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog=EXAMPLES)(agents)


def agents(
    forget: Annotated[str | None, typer.Option(metavar="APP", help="Remove the record of this app.")] = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """List the agents that are registered."""
    from mesh.cli.examining import list_agents
    from mesh.cli.outcome import leave_with

    leave_with(list_agents(server=server, forget=forget, json=json))
