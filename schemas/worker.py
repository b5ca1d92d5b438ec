"""What one worker is asked by name, on `mesh.worker.<name>`, and what it answers."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

HOLDS: Final = "holds"
DRAIN: Final = "drain"


class WorkerRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A question or an order to one worker.

    `holds`: does it still work on the delivery `delivery` of the command at `seq`? `drain`: take nothing new, end what
    is held within `within_s` (by default the worker's own MESH_DRAIN_S), hand back the rest, leave.
    """

    kind: str
    seq: int = 0
    delivery: int = 0
    within_s: float | None = None


class WorkerAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Says what was asked; `error` if the request was not understood."""

    worker: str
    holds: bool = False
    draining: bool = False
    error: str = ""
