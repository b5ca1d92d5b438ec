"""The work of `mesh doctor`."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import typer

from mesh.bus import Bus
from mesh.cli.options import STORE
from mesh.cli.outcome import COMPLETED, FAILED
from mesh.cli.places import connected_bus
from mesh.doctor import Finding, State, examine
from mesh.find import LOCAL_URL, named_place, system_url
from mesh.logs import colourful
from mesh.server import read_server_json
from mesh.settings import settings_from

COLOURS: Final[dict[State, str]] = {"ok": "green", "note": "cyan", "problem": "red"}


async def examine_mesh(*, server: str | None, apply: bool, json: bool) -> int:
    """Prints each finding as it comes; the exit code."""
    settings, url, problems = settings_from(os.environ), _url(server), 0
    record = read_server_json(STORE)
    here = record is not None and record.url == url
    async with connected_bus(url, "doctor") as bus, _system(url) as system:
        async for finding in examine(bus, settings, apply=apply, system=system, here=here):
            problems += finding.state == "problem"
            typer.echo(msgspec.json.encode(finding) if json else _in_words(finding))
    return FAILED if problems else COMPLETED


@asynccontextmanager
async def _system(url: str) -> AsyncIterator[Bus | None]:
    """A connection to the system account, where one is known."""
    known = system_url(url, os.environ, STORE)
    if not known:
        yield None
        return
    async with connected_bus(known, "doctor") as bus:
        yield bus


def _url(server: str | None) -> str:
    place = named_place(server, os.environ, STORE)
    return place.url if place else LOCAL_URL


def _in_words(finding: Finding) -> str:
    state = f"{finding.state:7}"
    if colourful(sys.stdout, os.environ):
        state = typer.style(state, fg=COLOURS[finding.state])
    cure = f"\n{'':9}→ {finding.cure}" if finding.cure else ""
    return f"{state}  {finding.what}: {finding.message}{cure}"
