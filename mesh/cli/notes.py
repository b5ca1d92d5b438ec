"""What a command says beside its output, on stderr."""

from __future__ import annotations

import os
import sys

import typer

from mesh.logs import colourful


class Notes:
    """Lines on stderr; each begins on a line of its own where stdout goes to the same place and was in one."""

    def __init__(self) -> None:
        self._colour = colourful(sys.stderr, os.environ)
        self._shared = _shared()
        self.in_line = False

    def say(self, text: str) -> None:
        """Something that a reader may skip."""
        self._write(typer.style(text, dim=True) if self._colour else text)

    def warn(self, text: str) -> None:
        """Something that a reader should see."""
        self._write(typer.style(text, fg="yellow") if self._colour else text)

    def error(self, message: str, hint: str | None = None) -> None:
        """Why it did not work, and what to do."""
        label = typer.style("error:", fg="red", bold=True) if self._colour else "error:"
        self._write(f"{label} {message}" + (f"\nhint: {hint}" if hint else ""))

    def _write(self, text: str) -> None:
        if self.in_line and self._shared:
            text = f"\n{text}"
            self.in_line = False
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _shared() -> bool:
    """Whether stdout and stderr are one terminal, pipe or file, whatever `sys.stdout` is now."""
    try:
        return os.path.sameopenfile(1, 2)
    except OSError:
        return False
