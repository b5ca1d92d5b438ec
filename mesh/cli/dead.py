"""`mesh dead`: what could not be understood, routed or finished."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import options

LS_EXAMPLES = """\b
Examples:
  mesh dead ls
  mesh dead ls --kind attempts_exhausted
  mesh dead ls --limit 0                 all of them
  mesh dead ls --json | jq .letter.error.message

The oldest come first.
"""
SHOW_EXAMPLES = """\b
Examples:
  mesh dead show 17
  mesh dead show 17 --json | jq -r .letter.body
"""
REDRIVE_EXAMPLES = """\b
Examples:
  mesh dead redrive 17
  mesh dead redrive 17 18 21
  mesh dead redrive --kind attempts_exhausted
  mesh dead redrive 17 --agent report    a submit to a name that no agent has

It runs once, also if this command is repeated, killed, or given twice at the same time. A task that has failed stays
failed: a new one gets the same input, under an id of its own, and names the old one in its metadata; so does a submit
that came too late or under an id that was taken. Any other message is published as it was; one that cannot be used
this time either comes back as a new letter. The letter is removed once the broker has stored what it was about.
"""
RM_EXAMPLES = """\b
Examples:
  mesh dead rm 17
  mesh dead rm --kind invalid_signal

What is removed cannot be redriven any more.
"""

group = typer.Typer(help="List, show, redrive and remove dead letters.", no_args_is_help=True, rich_markup_mode=None)
Number = Annotated[int, typer.Argument(metavar="LETTER", help="Its number.", show_default=False, min=1)]
Numbers = Annotated[
    list[int] | None, typer.Argument(metavar="[LETTER...]", help="Their numbers.", show_default=False, min=1)
]
Kind = Annotated[str | None, typer.Option(metavar="KIND", help="All of this kind.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    group.command("ls", epilog=LS_EXAMPLES)(ls)
    group.command("show", epilog=SHOW_EXAMPLES)(show)
    group.command("redrive", epilog=REDRIVE_EXAMPLES)(redrive)
    group.command("rm", epilog=RM_EXAMPLES)(rm)
    app.add_typer(group, name="dead")


def ls(
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Only this kind.", show_default=False)] = None,
    limit: options.Count = options.LIMIT,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """List dead letters."""
    from mesh.cli.dead_letters import list_letters
    from mesh.cli.outcome import leave_with

    leave_with(list_letters(kind, limit=limit, server=server, json=json))


def show(letter: Number, server: options.Server = None, json: options.Json = False) -> None:
    """Show a dead letter: why, what it was, and what to do."""
    from mesh.cli.dead_letters import show_letter
    from mesh.cli.outcome import leave_with

    leave_with(show_letter(letter, server=server, json=json))


def redrive(
    letters: Numbers = None,
    kind: Kind = None,
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who gets the task, if not the agent it was for.")
    ] = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Have what dead letters are about done after all, once."""
    from mesh.cli.dead_letters import redrive_letters
    from mesh.cli.outcome import leave_with

    leave_with(redrive_letters(letters or [], kind, agent=agent, server=server, json=json))


def rm(letters: Numbers = None, kind: Kind = None, server: options.Server = None) -> None:
    """Remove dead letters."""
    from mesh.cli.dead_letters import remove_letters
    from mesh.cli.outcome import leave_with

    leave_with(remove_letters(letters or [], kind, server=server))
