"""`mesh bench`: what this machine does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """\b
Examples:
  mesh bench
  mesh bench --only W1,W4 --json figures.json
  mesh bench --only W7 --tasks 100000
"""


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog=EXAMPLES)(bench)


def bench(
    only: Annotated[str | None, typer.Option(metavar="W1,W4", help="These workloads, instead of all.")] = None,
    tasks: Annotated[int | None, typer.Option(metavar="N", min=10, help="How many tasks W7 makes.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small counts: a smoke test.")] = False,
    json: Annotated[str | None, typer.Option(metavar="PATH", help="Write JSON there; - is stdout.")] = None,
    store: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where temporary stores are made.")] = None,
) -> None:
    """Measure a mesh on this machine."""
    from mesh.bench import WORKLOADS, BenchOptions, render, run, to_json

    chosen = tuple(only.lower().split(",")) if only else WORKLOADS
    report = run(BenchOptions(only=chosen, quick=quick, size=tasks, store=store, progress=_say))
    if json == "-":
        sys.stdout.buffer.write(to_json(report))
        return
    if json:
        Path(json).write_bytes(to_json(report))
    sys.stdout.write(render(report))


def _say(what: str) -> None:
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()
