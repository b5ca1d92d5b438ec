"""`mesh bench`: what this machine does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """\b
Examples:
  mesh bench
  mesh bench --only W1,W4 --json figures.json
"""


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog=EXAMPLES)(bench)


def bench(
    only: Annotated[str | None, typer.Option(metavar="W1,W4", help="These workloads, instead of all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small counts: a smoke test.")] = False,
    json: Annotated[str | None, typer.Option(metavar="PATH", help="Write JSON there; - is stdout.")] = None,
    store: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where temporary stores are made.")] = None,
) -> None:
    """Measure a mesh on this machine."""
    from mesh.bench.__main__ import main

    given = {"--only": only, "--json": json, "--store": store}
    options = [word for option, value in given.items() if value is not None for word in (option, str(value))]
    raise typer.Exit(main([*options, *(["--quick"] if quick else [])]))
