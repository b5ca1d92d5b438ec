"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

STORE = Path(".mesh")
LIMIT = 50

Server = Annotated[
    str | None, typer.Option("--server", metavar="URL", help="The NATS server, instead of the one that is found.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]
App = Annotated[
    str | None, typer.Option("--app", metavar="APP", help="Serve this app: package.module:app or path/file.py:app.")
]
Store = Annotated[Path, typer.Option("--store", metavar="FOLDER", help="Where an embedded mesh keeps its data.")]
Task = Annotated[str, typer.Argument(metavar="TASK", help="The task's id.", show_default=False)]
Input = Annotated[
    str,
    typer.Argument(metavar="INPUT", help="Text or JSON; - reads stdin, without its last newline.", show_default=False),
]
Context = Annotated[str | None, typer.Option(metavar="ID", help="The conversation it belongs to.")]
DrainS = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="How long Ctrl-C lets tasks go on.", show_default="MESH_DRAIN_S, 10", min=0),
]
Count = Annotated[int, typer.Option(metavar="COUNT", help="How many at most; 0 is all.", min=0)]
