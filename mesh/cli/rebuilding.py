"""The work of `mesh session-store rebuild`."""

from __future__ import annotations

import os

import msgspec
import typer

from mesh.cli.options import STORE
from mesh.cli.outcome import COMPLETED, FAILED
from mesh.cli.places import connected_bus
from mesh.errors import BusUnavailable
from mesh.find import find_place
from mesh.sessions import SessionStore
from mesh.settings import settings_from
from mesh.subjects import Subjects
from schemas import session
from schemas.session import RebuildAnswer


async def rebuild_views(timeout_s: float, *, server: str | None, json: bool) -> int:
    """Prints what each store says; the exit code."""
    prefix = settings_from(os.environ).prefix
    place = await find_place(server, os.environ, store=STORE, prefix=prefix)
    said: list[RebuildAnswer] = []
    async with connected_bus(place.url, "rebuild") as bus:
        async for answer in SessionStore(bus, Subjects(prefix)).rebuild(timeout_s):
            said.append(answer)
            typer.echo(msgspec.json.encode(answer) if json else _in_words(answer))
    if not said:
        raise BusUnavailable("no session store answers", hint="start one with `mesh service session-store`")
    return FAILED if any(answer.state == session.FAILED for answer in said) else COMPLETED


def _in_words(answer: RebuildAnswer) -> str:
    if answer.state == session.DONE:
        return f"{answer.store}: done, {answer.tasks} tasks up to sequence {answer.sequence}"
    if answer.error is not None:
        return f"{answer.store}: failed, {answer.error.message}"
    return f"{answer.store}: {answer.state}"
