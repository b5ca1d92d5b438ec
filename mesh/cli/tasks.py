"""`mesh submit`, `mesh tail`, `mesh cancel`: a task from outside."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import options

SUBMIT_EXAMPLES = """\b
Examples:
  mesh submit report "otters"
  id=$(mesh submit report "otters" --deadline 60) && mesh tail $id
  mesh submit report "otters" --id order-17 --metadata '{"from": "cron"}'
  mesh submit order '{"item": "otter", "count": 2}'

The id is printed once the task is stored. The same --id with the same content runs once, so a submit may be repeated;
with other content the first one stays, and the later one is a `duplicate_id` of `mesh dead ls`.
"""
TAIL_EXAMPLES = """\b
Examples:
  mesh tail 01k3v9m8q2t5w7x9z1b3d5f7h9
  mesh tail 01k3v9m8q2t5w7x9z1b3d5f7h9 --json
  mesh tail 01k3v9m8q2t5w7x9z1b3d5f7h9 --from CURSOR

Any number may watch; leaving stops nothing. The exit code is that of `mesh run`.
"""
CANCEL_EXAMPLES = """\b
Examples:
  mesh cancel 01k3v9m8q2t5w7x9z1b3d5f7h9
  mesh cancel 01k3v9m8q2t5w7x9z1b3d5f7h9 --reason "not needed any more"
"""


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(epilog=SUBMIT_EXAMPLES)(submit)
    app.command(epilog=TAIL_EXAMPLES)(tail)
    app.command(epilog=CANCEL_EXAMPLES)(cancel)


def submit(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.", show_default=False)],
    input: options.Input,
    id: Annotated[str | None, typer.Option(metavar="ID", help="The task's id; a fresh one if not given.")] = None,
    context: options.Context = None,
    owner: Annotated[str | None, typer.Option(metavar="TENANT/USER", help="For whom it is done.")] = None,
    deadline: Annotated[float | None, typer.Option(metavar="SECONDS", help="It fails after that.")] = None,
    metadata: Annotated[str | None, typer.Option(metavar="JSON", help="An object for the handler.")] = None,
    server: options.Server = None,
) -> None:
    """Submit a task and print its id."""
    from mesh.cli.calling import Submission, submit_task
    from mesh.cli.input import read_object, read_text
    from mesh.cli.outcome import leave_with

    submission = Submission(
        agent=agent, input=read_text(input), id=id, context=context, owner=owner, deadline_s=deadline,
        metadata=read_object(metadata, "--metadata"),
    )  # fmt: skip
    leave_with(submit_task(submission, server=server))


def tail(
    task: options.Task,
    cursor: Annotated[str | None, typer.Option("--from", metavar="CURSOR", help="Resume after this event.")] = None,
    server: options.Server = None,
    store: options.Store = options.STORE,
    json: options.Json = False,
) -> None:
    """Follow a task to its end, from its beginning or a cursor."""
    from mesh.cli.calling import tail_task
    from mesh.cli.input import checked_id
    from mesh.cli.outcome import leave_with

    leave_with(tail_task(checked_id(task), cursor, server=server, store=store, json=json))


def cancel(
    task: options.Task,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; it stands in the log.")] = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Cancel a task and all below it."""
    from mesh.cli.calling import cancel_task
    from mesh.cli.input import checked_id
    from mesh.cli.outcome import leave_with

    leave_with(cancel_task(checked_id(task), reason, server=server, json=json))
