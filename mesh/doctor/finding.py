"""What a look at a mesh brings to light."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

State = Literal["ok", "note", "problem"]


class Finding(Struct, frozen=True, omit_defaults=True):
    """One thing that was looked at; `cure` says what to do about a problem."""

    what: str
    state: State
    message: str
    cure: str = ""
