"""Logs go to stderr: for a person on a terminal, one JSON object per line otherwise.

A handler's logger carries `task`, `context`, `agent` and `attempt`; what an executor binds for the time of a task is on
every line that is logged meanwhile.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from mesh.errors import InvalidInput

VARIABLE = "MESH_LOG_LEVEL"
LEVELS = ("debug", "info", "warning", "error")


class Unbreakable:
    """Writes to a stream that may be closed by whoever reads it: a lost line must not end a service."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def configure(environ: Mapping[str, str], *, default: str = "info", stream: TextIO | None = None) -> None:
    """Sets up structlog and the standard library's logging, once per process.

    Raises: InvalidInput for a level that does not exist.
    """
    name = environ.get(VARIABLE, default).lower()
    if name not in LEVELS:
        raise InvalidInput(f"{VARIABLE}={name!r} is no level", hint=f"levels are: {', '.join(LEVELS)}")
    level = logging.getLevelNamesMapping()[name.upper()]
    out: TextIO = stream or sys.stderr
    quiet = cast("TextIO", Unbreakable(out))
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last = _for_a_person(environ) if out.isatty() else _for_a_program()
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(quiet),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(quiet)
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    foreign = [*shared, structlog.stdlib.ExtraAdder()]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=foreign, processors=[remove, *last]))
    # What libraries say below INFO is of no use to an operator; `mesh.bus` logs in the same way, because a caller's
    # program decides for itself what becomes of the lines of its client.
    logging.basicConfig(handlers=[handler], level=max(level, logging.INFO), force=True)
    logging.getLogger("mesh").setLevel(level)


def colourful(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether colour is wanted there: on a terminal, unless `NO_COLOR` is set."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def _for_a_person(environ: Mapping[str, str]) -> list[Any]:
    return [structlog.dev.ConsoleRenderer(colors=colourful(sys.stderr, environ))]


def _for_a_program() -> list[Any]:
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
