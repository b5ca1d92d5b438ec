"""`mesh doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import options

EXAMPLES = """\b
Examples:
  mesh doctor
  mesh doctor --server nats://nats:4222 --apply     create what is missing
  mesh doctor --json | jq 'select(.state == "problem")'

The exit code is 0 if nothing is wrong, 1 if something is, 5 if the server cannot be reached.
"""


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog=EXAMPLES)(doctor)


def doctor(
    apply: Annotated[bool, typer.Option("--apply", help="Create and mend what loses nothing.")] = False,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Look at a mesh and say what to do."""
    from mesh.cli.examining import examine_mesh
    from mesh.cli.outcome import leave_with

    leave_with(examine_mesh(server=server, apply=apply, json=json))
