"""What the registry holds: one record per app, and presence of workers."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class AgentRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One agent of an app; schemas are JSON Schema of its input and output."""

    name: str
    description: str = ""
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None


class ToolRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One tool of an app; the schema is JSON Schema of its arguments."""

    name: str
    description: str = ""
    input_schema: dict[str, Any] | None = None
    idempotent: bool = False
    on_unknown: str = "fail"


class AppRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One app, written by every executor that starts with it; it does not expire.

    `pool` is the subject token its tasks are run on; `version` is that of the newest start.
    """

    v: int
    app: str
    pool: str
    version: str
    agents: tuple[AgentRecord, ...]
    tools: tuple[ToolRecord, ...] = ()
    at: str = ""


class WorkerRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A worker that lives: it is rewritten while it does and expires after that.

    `held` are the stream sequences of the deliveries it has held for longer than the rewriting pause.
    """

    v: int
    worker: str
    service: str
    pool: str = ""
    app_version: str = ""
    pid: int = 0
    host: str = ""
    in_flight: int = 0
    draining: bool = False
    abandoned_threads: int = 0
    held: tuple[int, ...] = ()
