"""The `mesh` command."""

from __future__ import annotations

import sys

from mesh.errors import MeshError


def main() -> None:
    """Runs the command line; what goes wrong is one line with a hint, and an exit code."""
    from mesh.cli.app import app

    try:
        app(prog_name="mesh")
    except MeshError as error:
        from mesh.cli.outcome import report

        sys.exit(report(error))
