"""`mesh ls` and `mesh context`: tasks and conversations, as the session store has them."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import options

LS_EXAMPLES = """\b
Examples:
  mesh ls
  mesh ls --state working --agent report
  mesh ls --since 1h --limit 0           all of the last hour
  mesh ls --context trip-7 --json | jq -r .id

The newest status comes first. A session store answers, which `mesh dev` serves too; where no mesh is running, one is
started on ./.mesh for as long as this takes.
"""
CONTEXT_LS_EXAMPLES = """\b
Examples:
  mesh context ls
  mesh context ls --owner acme/ann
"""
SHOW_EXAMPLES = """\b
Examples:
  mesh context show trip-7
  mesh context show trip-7 --json | jq -r .content
"""
DELETE_EXAMPLES = """\b
Examples:
  mesh context delete trip-7

All its tasks must have ended: their logs are purged, and artifacts that nothing else refers to are removed within a
day. What was deleted is gone, on every session store.
"""

group = typer.Typer(help="List, show and delete conversations.", no_args_is_help=True, rich_markup_mode=None)
Context = Annotated[str, typer.Argument(metavar="CONTEXT", help="Its id.", show_default=False)]
Owner = Annotated[str | None, typer.Option(metavar="TENANT/USER", help="Only those of this owner.")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(epilog=LS_EXAMPLES)(ls)
    group.command("ls", epilog=CONTEXT_LS_EXAMPLES)(context_ls)
    group.command("show", epilog=SHOW_EXAMPLES)(show)
    group.command("delete", epilog=DELETE_EXAMPLES)(delete)
    app.add_typer(group, name="context")


def ls(
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="Such as working, completed, failed, canceled.")
    ] = None,
    agent: Annotated[str | None, typer.Option(metavar="NAME", help="Only those of this agent.")] = None,
    context: Annotated[str | None, typer.Option(metavar="ID", help="Only those of this conversation.")] = None,
    owner: Owner = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="With a status since then: 30m, 2h, 7d, or RFC 3339.")
    ] = None,
    limit: options.Count = options.LIMIT,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """List tasks."""
    from mesh.cli.listings import Wanted, list_tasks
    from mesh.cli.outcome import leave_with

    wanted = Wanted(state=state, agent=agent, context=context, owner=owner, since=since, limit=limit)
    leave_with(list_tasks(wanted, server=server, json=json))


def context_ls(
    owner: Owner = None,
    limit: options.Count = options.LIMIT,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """List conversations."""
    from mesh.cli.contexts import list_contexts
    from mesh.cli.outcome import leave_with

    leave_with(list_contexts(owner, limit=limit, server=server, json=json))


def show(
    context: Context,
    owner: Owner = None,
    limit: options.Count = options.LIMIT,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Show what was said in a conversation."""
    from mesh.cli.contexts import show_context
    from mesh.cli.outcome import leave_with

    leave_with(show_context(context, owner, limit=limit, server=server, json=json))


def delete(
    context: Context,
    owner: Owner = None,
    server: options.Server = None,
) -> None:
    """Delete a conversation with the logs of its tasks."""
    from mesh.cli.contexts import delete_context
    from mesh.cli.outcome import leave_with

    leave_with(delete_context(context, owner, server=server))
