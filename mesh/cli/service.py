"""`mesh service`: one service as a process of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import options

EXAMPLES = """\b
Examples:
  mesh service router --server nats://nats:4222
  mesh service executor --app shop.agents:app
  mesh service tool-runner --app shop.agents:app

Any number of each may run; any may be killed at any moment. A broker that is away is waited for. SIGTERM drains.
"""


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog=EXAMPLES)(service)


def service(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="router, executor, tool-runner or session-store.", show_default=False)
    ],
    app: options.App = None,
    server: options.Server = None,
    drain_s: options.DrainS = None,
) -> None:
    """Serve one service until it is told to stop."""
    from mesh.cli.outcome import leave_with
    from mesh.cli.served import load_served
    from mesh.cli.serving import serve
    from mesh.service import find_service

    find_service(name)
    leave_with(serve(name, load_served(app) if app else None, server=server, drain_s=drain_s), logs="info")
