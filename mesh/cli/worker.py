"""`mesh worker`: the processes that do the work."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import options

LS_EXAMPLES = """\b
Examples:
  mesh worker ls
  mesh worker ls --service executor
  mesh worker ls --json | jq 'select(.draining)'
  mesh worker ls --json | jq -r '.tasks[] | select(.quiet_s > 600).task'

A worker that was killed is listed for some seconds more. The tasks are those held for longer than a moment, the
quietest first: `quiet` is for how long a task has come no further, with no step and no text. `mesh show TASK` says what
it did last, and `mesh cancel TASK` ends it.
"""
DRAIN_EXAMPLES = """\b
Examples:
  mesh worker drain executor-4711-ab12cd
  mesh worker drain executor-4711-ab12cd --within 0     hand back at once
  mesh worker drain executor-4711-ab12cd --wait

It takes nothing new, ends what it can in time and hands back the rest, which other workers go on with from the log.
Then it leaves; a process that served nothing else ends.
"""

group = typer.Typer(help="List workers, and drain one.", no_args_is_help=True, rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    group.command("ls", epilog=LS_EXAMPLES)(ls)
    group.command("drain", epilog=DRAIN_EXAMPLES)(drain)
    app.add_typer(group, name="worker")


def ls(
    service: Annotated[str | None, typer.Option(metavar="NAME", help="Only those of this service.")] = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """List the workers that live."""
    from mesh.cli.outcome import leave_with
    from mesh.cli.workers import list_workers

    leave_with(list_workers(service, server=server, json=json))


def drain(
    name: Annotated[str, typer.Argument(metavar="WORKER", help="Its name.", show_default=False)],
    within: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="How long it may go on.", show_default="its own", min=0),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it has left.")] = False,
    server: options.Server = None,
) -> None:
    """Have a worker finish or hand back what it holds, and leave."""
    from mesh.cli.outcome import leave_with
    from mesh.cli.workers import drain_worker

    leave_with(drain_worker(name, within, wait=wait, server=server))
