"""`mesh run`: one task, from its submit to its result."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import options

EXAMPLES = """\b
Examples:
  mesh run hello "otters"                        the built-in demo agent
  mesh run report "otters" --app app.py:app      an agent of your own
  cat notes.txt | mesh run report - --app app.py:app
  mesh run offers "otters" --app app.py:app | jq .total
  mesh run assistant "and in leap years?" --context days

Stdout has the agent's text and its output, everything else is on stderr. Where stdout is no terminal and the output
is not text but data, stdout has that alone, so it can be piped. Where no mesh is running, one is started on ./.mesh
for the duration; `mesh show TASK` works afterwards. The first Ctrl-C cancels the task, the second leaves.
"""


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog=EXAMPLES)(run)


def run(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's name.", show_default=False)],
    input: options.Input,
    context: options.Context = None,
    app: options.App = None,
    server: options.Server = None,
    store: options.Store = options.STORE,
    json: options.Json = False,
) -> None:
    """Run a task and print what the agent says."""
    from mesh.cli.input import read_text
    from mesh.cli.outcome import leave_with
    from mesh.cli.running import Request, run_task

    request = Request(
        agent=agent, input=read_text(input), context=context, app=app, server=server, store=store, json=json
    )
    leave_with(run_task(request))
