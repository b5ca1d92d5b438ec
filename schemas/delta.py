"""Deltas: text on its way, before the log has it."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

DeltaKind = Literal["text", "reasoning", "tool_arguments"]
MAX_DELTA_CHARS: Final = 8192


class Delta(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of text of one (step, part), from `offset` (characters) on.

    `attempt` counts executions of the step; a reader drops pieces of an older one. `at` is Unix seconds.
    """

    v: int
    task: str
    attempt: int
    offset: int
    text: str
    at: float
    step: str = ""
    part: int = 0
    kind: str = "text"
