"""The work of `mesh ls`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Generic, TypeVar, get_args

import msgspec
import typer
from msgspec import Struct
from msgspec.structs import replace

from mesh.cli.notes import Notes
from mesh.cli.options import STORE
from mesh.cli.outcome import COMPLETED
from mesh.cli.places import connected_bus, database_on, readable
from mesh.cli.plain import plain
from mesh.errors import InvalidInput
from mesh.probe import require_mesh
from mesh.runtime import Fleet, serving
from mesh.service import ServiceConfig
from mesh.sessions import SessionStore
from mesh.sessions.asking import since_text
from mesh.settings import settings_from
from schemas.command import DEFAULT_OWNER
from schemas.envelope import VERSION
from schemas.session import MAX_LIMIT, TaskRecord, TasksRequest
from schemas.task import State

T = TypeVar("T")
STATES: Final = get_args(State)
_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Wanted(Struct, frozen=True, kw_only=True):
    """Which tasks, as the command line says it."""

    state: str | None
    agent: str | None
    context: str | None
    owner: str | None
    since: str | None
    limit: int


class Answering(Struct, frozen=True):
    """A session store that answers, and the newest sequence of the logs when it was asked for."""

    store: SessionStore
    sequence: int


async def list_tasks(wanted: Wanted, *, server: str | None, json: bool) -> int:
    """Prints one line per task, and whether there are more; the exit code."""
    _check_state(wanted.state)
    async with answering(server) as answers:
        first = TasksRequest(
            v=VERSION, state=wanted.state, agent=wanted.agent, context_id=wanted.context, owner=wanted.owner,
            since=_counted_back(wanted.since), sequence=answers.sequence,
        )  # fmt: skip

        async def page(limit: int, token: str | None) -> Part[TaskRecord]:
            found = await answers.store.tasks(replace(first, limit=limit, page_token=token))
            return Part(found.tasks, found.next_page_token)

        shown = await show_pages(page, wanted.limit, lambda task: msgspec.json.encode(task) if json else _line(task))
    if not shown:
        Notes().say("there are no such tasks")
    return COMPLETED


class Part(Struct, Generic[T], frozen=True):
    """One page of a list, and where the next one begins."""

    items: tuple[T, ...]
    more: str | None


async def show_pages(
    page: Callable[[int, str | None], Awaitable[Part[T]]], limit: int, line: Callable[[T], str | bytes]
) -> int:
    """Prints at most `limit` lines (0: all), and says whether there are more; how many lines it printed."""
    shown, token = 0, None
    while True:
        part = await page(min(limit - shown, MAX_LIMIT) if limit else MAX_LIMIT, token)
        for item in part.items:
            typer.echo(line(item))
        shown, token = shown + len(part.items), part.more
        if token is None:
            return shown
        if limit and shown >= limit:
            Notes().say(f"there are more than {shown}: --limit {2 * shown} shows more, --limit 0 all")
            return shown


@asynccontextmanager
async def answering(server: str | None) -> AsyncIterator[Answering]:
    """The session store of the mesh that is running, else one on the folder for as long as this takes."""
    settings = settings_from(os.environ)
    async with AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(readable(server, STORE))
        if mesh.asleep:
            config = ServiceConfig(url=mesh.url, settings=settings, database=database_on(STORE))
            await stack.enter_async_context(serving(Fleet(["session-store"], config), Notes().warn))
        bus = await stack.enter_async_context(connected_bus(mesh.url, "ls"))
        await require_mesh(bus, mesh.names)
        yield Answering(SessionStore(bus, mesh.names), await bus.last_sequence(mesh.names.tasks))


def _check_state(text: str | None) -> None:
    if text is not None and text not in STATES:
        raise InvalidInput(f"'{text}' is no state of a task", hint=f"states are {', '.join(STATES)}")


def _counted_back(text: str | None) -> str | None:
    """A time as it was given; a length of time is that long ago. Raises InvalidInput."""
    found = _AGO.fullmatch(text or "")
    try:
        return since_text(time.time() - float(found[1]) * _SECONDS[found[2]] if found else text)
    except InvalidInput as error:
        raise InvalidInput(error.message, hint="such as 30m, 2h, 7d or 2026-01-31T12:00:00Z") from error


def _line(task: TaskRecord) -> str:
    state = task.state if task.phase == "ended" else f"{task.state} ({task.phase})"
    context = f"  context {plain(task.context_id)}" if task.context_id not in ("", task.id) else ""
    owner = f"  {task.owner}" if task.owner not in ("", DEFAULT_OWNER) else ""
    code = f"  {task.error_code}" if task.error_code else ""
    return f"{task.id:26}  {task.status_at[:19]}  {state:20}  {task.agent or '-'}{owner}{context}{code}"
