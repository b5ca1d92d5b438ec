"""`mesh archive` and `mesh restore`: the log of an ended task as a file."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import options

ARCHIVE_EXAMPLES = """\b
Examples:
  mesh archive 01k3v9m8q2t5w7x9z1b3d5f7h9 --to report.zip
  mesh archive 01k3v9m8q2t5w7x9z1b3d5f7h9 --to objects

The archive holds every commit byte for byte, and every object that they refer to. The log itself stays.
"""
RESTORE_EXAMPLES = """\b
Examples:
  mesh restore report.zip
  mesh restore sha256-9f86d081…

The task is shown, tailed and listed as before, and nothing of it runs again. A log that is there already stays.
"""


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(epilog=ARCHIVE_EXAMPLES)(archive)
    app.command(epilog=RESTORE_EXAMPLES)(restore)


def archive(
    task: options.Task,
    to: Annotated[str, typer.Option("--to", metavar="FILE", help="Write it there; `objects` keeps it on the broker.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    server: options.Server = None,
    store: options.Store = options.STORE,
) -> None:
    """Archive the log of a task that has ended."""
    from mesh.cli.archiving import archive_task
    from mesh.cli.input import checked_id
    from mesh.cli.outcome import leave_with

    leave_with(archive_task(checked_id(task), to, force=force, server=server, store=store))


def restore(
    archive: Annotated[str, typer.Argument(metavar="ARCHIVE", help="A file, or a digest.", show_default=False)],
    server: options.Server = None,
    store: options.Store = options.STORE,
) -> None:
    """Restore the log of a task from its archive."""
    from mesh.cli.archiving import restore_task
    from mesh.cli.outcome import leave_with

    leave_with(restore_task(archive, server=server, store=store))
