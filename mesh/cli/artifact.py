"""`mesh artifact`: what a task has written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mesh.cli import options

LS_EXAMPLES = """\b
Examples:
  mesh artifact ls 01k3v9m8q2t5w7x9z1b3d5f7h9
  mesh artifact ls 01k3v9m8q2t5w7x9z1b3d5f7h9 --json | jq -r .name

They stand in the order in which they were written; of one name the last is the newest.
"""
GET_EXAMPLES = """\b
Examples:
  mesh artifact get 01k3v9m8q2t5w7x9z1b3d5f7h9 report.md
  mesh artifact get 01k3v9m8q2t5w7x9z1b3d5f7h9 report.md -o - | less
  mesh artifact get 01k3v9m8q2t5w7x9z1b3d5f7h9 report.md --force

NAME may also be a digest, for an older version. The file appears when all of it has come and fits its digest.
"""

group = typer.Typer(help="List and fetch the artifacts of a task.", no_args_is_help=True, rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    group.command("ls", epilog=LS_EXAMPLES)(ls)
    group.command("get", epilog=GET_EXAMPLES)(get)
    app.add_typer(group, name="artifact")


def ls(
    task: options.Task,
    server: options.Server = None,
    store: options.Store = options.STORE,
    json: options.Json = False,
) -> None:
    """List the artifacts of a task."""
    from mesh.cli.fetching import list_artifacts
    from mesh.cli.input import checked_id
    from mesh.cli.outcome import leave_with

    leave_with(list_artifacts(checked_id(task), server=server, store=store, json=json))


def get(
    task: options.Task,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The artifact's name.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write it there; - is stdout.", show_default="its name"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    server: options.Server = None,
    store: options.Store = options.STORE,
) -> None:
    """Fetch an artifact of a task."""
    from mesh.cli.fetching import fetch_artifact
    from mesh.cli.input import checked_id
    from mesh.cli.outcome import leave_with

    leave_with(fetch_artifact(checked_id(task), name, output, force=force, server=server, store=store))
