"""The work of `mesh submit`, `mesh tail` and `mesh cancel`."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import typer
from msgspec import Struct

from mesh.cli.notes import Notes
from mesh.cli.outcome import COMPLETED, FAILED, LEFT
from mesh.cli.output import Outlet
from mesh.cli.piped import writes_text
from mesh.cli.places import Reachable, connected, connected_bus, readable
from mesh.cli.printer import Follower, JsonPrinter, Printer, TextPrinter
from mesh.cli.waiting import complain
from mesh.client import Client
from mesh.errors import BusUnavailable
from mesh.find import raise_when_gone
from mesh.log.reading import read_log
from mesh.runtime import Interrupts
from schemas.signal import Answer

# Long enough for `mesh dev` to be stopped and started again.
GONE_S: Final = 10.0
OUTCOMES: Final = {
    "appended": "the request is in the log; the task ends as soon as its handler has stopped",
    "known": "the request was in the log already",
    "ended": "the task had ended before",
    "ended_now": "the task is canceled",
    "tombstone": "no such task is known; if it is still submitted, it will not run",
}


class Submission(Struct, frozen=True, kw_only=True):
    """What `mesh submit` sends."""

    agent: str
    input: str
    id: str | None
    context: str | None
    owner: str | None
    deadline_s: float | None
    metadata: dict[str, Any] | None


async def submit_task(wanted: Submission, *, server: str | None) -> int:
    """Submits and prints the id; the exit code."""
    async with connected(server) as client:
        task = await client.submit(
            wanted.agent, wanted.input, task_id=wanted.id, context_id=wanted.context, owner=wanted.owner,
            deadline_s=wanted.deadline_s, metadata=wanted.metadata,
        )  # fmt: skip
    typer.echo(task.id)
    return COMPLETED


async def tail_task(id: str, cursor: str | None, *, server: str | None, store: Path, json: bool) -> int:
    """Follows a task; the exit code says how it ended."""
    notes, out = Notes(), Outlet(sys.stdout)
    follower = Follower(id)
    async with (
        readable(server, store) as mesh,
        Client.connect(mesh.url, prefix=mesh.names.prefix) as client,
        Interrupts() as interrupts,
    ):
        asks = partial(writes_text, mesh.url, mesh.names, id)
        printer: Printer = JsonPrinter(out) if json else TextPrinter(out, notes, asks)
        events = client.tail(id, cursor)
        if mesh.asleep:
            await _check_ended(id, mesh)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(follower.follow(events, printer, client.restore))
            beside = [
                group.create_task(raise_when_gone(mesh.place, store, patience_s=GONE_S)),
                group.create_task(complain(follower, notes, mesh.place, mesh.names)),
            ]
            await interrupts.until_done(following, count=1)
            for task in (following, *beside):
                task.cancel()
        if not following.cancelled():
            return following.result()
    if follower.cursor:
        notes.say(f"left; to go on from here: mesh tail {id} --from {follower.cursor}")
    return LEFT


async def cancel_task(id: str, reason: str | None, *, server: str | None, json: bool) -> int:
    """Cancels a task and prints the router's answer; the exit code."""
    async with connected(server) as client:
        answer = await client.cancel(id, reason)
    typer.echo(msgspec.json.encode(answer) if json else _in_words(answer))
    return COMPLETED if answer.error is None else FAILED


def _in_words(answer: Answer) -> str:
    return answer.error.message if answer.error else OUTCOMES.get(answer.outcome, answer.outcome)


async def _check_ended(id: str, mesh: Reachable) -> None:
    """A tail of a task that nobody works on would never end."""
    async with connected_bus(mesh.url, "tail") as bus:
        entries = await read_log(bus, mesh.names, id)
    if entries[-1].commit.head.phase != "ended":
        raise BusUnavailable(
            f"task '{id}' has not ended, and no mesh is running that goes on with it",
            hint=f"start `mesh dev`; what has happened so far: mesh show {id}",
        )
