"""What reaches the log, and with what."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from mesh.logs import configure


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Where the lines go; the logging of the process is put back afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("mesh")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    root.handlers.clear()  # or they would be closed
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_what_the_bus_logs_carries_what_it_is_about(out: io.StringIO) -> None:
    configure({}, stream=out)
    logging.getLogger("mesh.bus.connection").warning("lost", extra={"link": "router-1/commit"})
    assert [(line["event"], line["link"], line["level"]) for line in lines(out)] == [
        ("lost", "router-1/commit", "warning")
    ]


def test_debug_lines_are_those_of_the_mesh_and_not_of_the_libraries_under_it(out: io.StringIO) -> None:
    configure({"MESH_LOG_LEVEL": "debug"}, stream=out)
    for name in ("mesh.bus.pull", "somebody.else"):
        logging.getLogger(name).debug("from %s", name)
    assert [line["event"] for line in lines(out)] == ["from mesh.bus.pull"]


def test_below_the_level_nothing_is_logged(out: io.StringIO) -> None:
    configure({"MESH_LOG_LEVEL": "error"}, stream=out)
    for name in ("mesh.bus.pull", "somebody.else"):
        logging.getLogger(name).warning("no")
    structlog.get_logger("mesh").warning("no")
    assert out.getvalue() == ""
