"""`mesh init`: an app to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """\b
Examples:
  mesh init
  mesh init shop && cd shop && mesh run report "otters" --app app.py:app
  mesh run clerk "what does an otter cost?" --app app.py:app

It writes app.py and test_app.py, and never overwrites anything.
"""


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog=EXAMPLES)(init)


def init(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where to write.", show_default="here")] = Path(),
) -> None:
    """Write a small app and its test."""
    from mesh.cli.starter import FILES
    from mesh.errors import AppError
    from mesh.loader import check_names

    check_names(folder)
    taken = [name for name in FILES if (folder / name).exists()]
    if taken:
        raise AppError(
            f"{folder / taken[0]} is there already, and nothing was written",
            hint="name another folder: mesh init FOLDER",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in FILES.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
            typer.echo(f"wrote {folder / name}")
    except OSError as error:
        raise AppError(
            f"{folder} cannot be written: {error.strerror}", hint="name a folder you may write to"
        ) from error
    here = "" if folder == Path() else f"cd {folder} && "
    typer.echo(f'try it:  {here}mesh run report "otters" --app app.py:app')
