"""What the registry holds: one record per app, and presence of workers."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class AgentRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One agent of an app; schemas are JSON Schema of its input and output.

    One that is a model with instructions names its `model` (`provider:model`) and its `tools`.
    """

    name: str
    description: str = ""
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    model: str = ""
    tools: tuple[str, ...] = ()


class ToolRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One tool of an app; the schema is JSON Schema of its arguments, the rest its policy."""

    name: str
    description: str = ""
    input_schema: dict[str, Any] | None = None
    idempotent: bool = False
    on_unknown: str = "fail"
    timeout_s: float | None = None
    max_attempts: int = 1
    max_concurrent: int | None = None


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

    `held` are the stream sequences of the deliveries it has held for longer than the rewriting pause, and `replies` the
    subjects on which these are answered, in the same order: with them a router gives back what a dead worker held.
    `unlisted` are as many more, for which the record has no room.
    `agents` are those an executor runs; another version of its app may have others. `stuck` says what blocks it, and
    `problems` what some of its tasks will fail with, such as a model's key that is missing.
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
    replies: tuple[str, ...] = ()
    stuck: str = ""
    problems: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    unlisted: int = 0
