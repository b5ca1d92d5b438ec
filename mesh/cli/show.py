"""`mesh show`: the log of a task, as it stands."""

from __future__ import annotations

import typer

from mesh.cli import options

EXAMPLES = """\b
Examples:
  mesh show 01k3v9m8q2t5w7x9z1b3d5f7h9
  mesh show 01k3v9m8q2t5w7x9z1b3d5f7h9 --json | jq .commit.head

Each commit has its sequence in the stream, its time, its writer, its events, and the state it leads to.
It works while nothing is running, too, as long as ./.mesh holds the task.
"""


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog=EXAMPLES)(show)


def show(
    task: options.Task,
    server: options.Server = None,
    store: options.Store = options.STORE,
    json: options.Json = False,
) -> None:
    """Show the log of a task, commit by commit."""
    from mesh.cli.input import checked_id
    from mesh.cli.outcome import leave_with
    from mesh.cli.showing import show_task

    leave_with(show_task(checked_id(task), server=server, store=store, json=json))
