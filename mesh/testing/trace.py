"""What workers of a test did, in one file that survives their death: one JSON object per line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from mesh.agents.performing import current_step

VARIABLE: Final = "MESH_TEST_TRACE"
EFFECT: Final = "effect"
PERFORM: Final = "perform"
POINT: Final = "point"


class TraceLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that process `pid` did: a write, a step's effect, a noted effect, or that it came to its point."""

    pid: int
    kind: str
    subject: str
    side: str = ""
    step: str = ""
    idempotent: bool = True


class Trace:
    """Appends lines; each is one write, so that the lines of many processes never mix."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, kind: str, subject: str, *, side: str = "") -> None:
        step = current_step() if kind == EFFECT else None
        line = TraceLine(
            pid=os.getpid(), kind=kind, subject=subject, side=side, step=step.step if step else "",
            idempotent=step.idempotent if step else True,
        )  # fmt: skip
        os.write(self._fd, msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        os.close(self._fd)


def read_trace(path: Path) -> list[TraceLine]:
    """Everything that was written down; nothing if nobody wrote."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=TraceLine) for line in path.read_bytes().splitlines()]


def note_effect(name: str) -> None:
    """Tells `crash_points` that an effect was made; does nothing elsewhere.

    Call it where your test's stand-in for the outside world does its work: the mail that is sent, the card that is
    charged.
    """
    path = os.environ.get(VARIABLE)
    if path:
        trace = Trace(path)
        try:
            trace.write(EFFECT, name)
        finally:
            trace.close()
