"""`mesh session-store`: what an operator does with the view of the log."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import options

REBUILD_EXAMPLES = """\b
Examples:
  mesh session-store rebuild
  mesh session-store rebuild --timeout 3600

Each database is built anew from the first commit on, while questions are answered from the old view.
"""

group = typer.Typer(help="The view of all tasks in SQL.", no_args_is_help=True, rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    group.command("rebuild", epilog=REBUILD_EXAMPLES)(rebuild)
    app.add_typer(group, name="session-store")


def rebuild(
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="Wait for so long.", min=1)] = 600.0,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Build the views of all session stores anew."""
    from mesh.cli.outcome import leave_with
    from mesh.cli.rebuilding import rebuild_views

    leave_with(rebuild_views(timeout, server=server, json=json))
