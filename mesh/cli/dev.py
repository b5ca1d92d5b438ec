"""`mesh dev`: a whole mesh in one process, for the time of writing an app."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import options

EXAMPLES = """\b
Examples:
  mesh dev                     serve the built-in demo app
  mesh dev app.py:app          serve your own
  mesh dev app.py --store /tmp/try --drain-s 2

Broker, router, session store, executor and tool runner of the app. It listens on 127.0.0.1:4222, or on a free port that
it announces if that is taken. Data are kept in ./.mesh. Ctrl-C lets running tasks end, the second one stops now; the
next start goes on with what is left.
"""


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog=EXAMPLES)(dev)


def dev(
    app: Annotated[
        str | None,
        typer.Argument(metavar="[APP]", help="package.module:app or path/file.py:app.", show_default=False),
    ] = None,
    store: options.Store = options.STORE,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT", help="Listen here, or not at all.", show_default="4222, or a free one", min=1, max=65535
        ),
    ] = None,
    drain_s: options.DrainS = None,
) -> None:
    """Start a whole mesh here, and serve an app."""
    from mesh.cli.developing import develop
    from mesh.cli.outcome import leave_with
    from mesh.cli.served import load_served

    leave_with(develop(load_served(app), store=store, port=port, drain_s=drain_s), logs="info")
