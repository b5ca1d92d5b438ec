"""The `mesh` command."""

from __future__ import annotations

import sys

from mesh.cli.signals import leave_at_ctrl_c


def main() -> None:
    """Runs the command line; what goes wrong is one line with a hint, and an exit code."""
    leave_at_ctrl_c()
    from mesh.cli.app import app
    from mesh.errors import MeshError

    try:
        app(prog_name="mesh")
    except MeshError as error:
        from mesh.cli.outcome import leave_unread, report

        try:
            code = report(error)
        except BrokenPipeError:
            leave_unread()
        sys.exit(code)
