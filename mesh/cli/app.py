"""The commands, in the order in which `mesh --help` shows them."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli import (
    agent,
    archive,
    artifact,
    bench,
    dead,
    dev,
    doctor,
    init,
    listing,
    run,
    schema,
    service,
    session_store,
    show,
    tasks,
    worker,
)

EXAMPLES = """\b
Examples:
  mesh run hello "otters"                    try the built-in demo agent
  mesh init                                  write an app to start from
  mesh run report "otters" --app app.py:app  run an agent of your own
  mesh dev app.py:app                        keep a mesh running here
  mesh doctor                                see what is wrong and what to do

A command finds its mesh by --server, MESH_SERVER, ./.mesh/server.json of a running `mesh dev`, or on
nats://127.0.0.1:4222. Exit codes: 0 completed, 1 failed or rejected, 2 usage, 3 canceled, 5 mesh unreachable,
130 left by Ctrl-C, 141 nobody reads the output; 4 is kept for a task that waits for input, which comes later.
"""

app = typer.Typer(
    name="mesh",
    help="An event-driven mesh of agents on NATS: submit, stream, resume, cancel.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"nats-agent-mesh {version('nats-agent-mesh')}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None: ...


for group in (
    run,
    dev,
    tasks,
    listing,
    show,
    artifact,
    archive,
    agent,
    worker,
    dead,
    doctor,
    init,
    schema,
    service,
    session_store,
    bench,
):
    group.add_to(app)
