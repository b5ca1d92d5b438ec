"""The work of `mesh run`."""

from __future__ import annotations

import asyncio
import difflib
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from mesh.cli.notes import Notes
from mesh.cli.outcome import LEFT
from mesh.cli.output import Outlet
from mesh.cli.piped import writes_text
from mesh.cli.places import EMBEDDED, database_on, found_or_embedded
from mesh.cli.printer import Follower, JsonPrinter, Printer, TextPrinter
from mesh.cli.served import Served, demo_in_words, load_served
from mesh.cli.waiting import complain
from mesh.client import Client, Task
from mesh.errors import BusUnavailable, InvalidInput, MeshError
from mesh.find import Place, has_gone, raise_when_gone, system_url
from mesh.runtime import Fleet, Interrupts, serving
from mesh.service import ServiceConfig, services_of
from mesh.settings import settings_from
from mesh.subjects import Subjects
from schemas.ids import new_id

GONE_S: Final = 1.0
TERMINATED_S: Final = 5.0


class Request(Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    agent: str
    input: str
    context: str | None
    app: str | None
    server: str | None
    store: Path
    json: bool


async def run_task(request: Request) -> int:
    """Submits, shows and, on a signal, cancels one task; the exit code."""
    # Stdout is the agent's text: what an app prints while it is imported or runs goes to stderr.
    out = Outlet(sys.stdout)
    with redirect_stdout(sys.stderr):
        async with Interrupts() as interrupts:
            return await _Run(request, out, interrupts).carry()


class _Run:
    """One task of the command line.

    If the mesh it found was that of another command in this folder, and that one ends first, this one starts a mesh on
    the same store and goes on from its cursor.
    """

    def __init__(self, request: Request, out: Outlet, interrupts: Interrupts) -> None:
        self._request = request
        self._settings = settings_from(os.environ)
        self._interrupts = interrupts
        self._notes = Notes()
        self._printer: Printer = JsonPrinter(out) if request.json else TextPrinter(out, self._notes, self._writes_text)
        self._served = load_served(request.app) if request.app else None
        self._follower = Follower(new_id(int(time.time() * 1000)))
        self._place: Place | None = None
        self._submitted = False

    async def carry(self) -> int:
        """Follows the task to its end, on one mesh after the other if need be."""
        while True:
            self._interrupts.cancelling(asyncio.current_task())
            try:
                async with self._mesh() as place, Client.connect(place.url, prefix=self._settings.prefix) as client:
                    return await self._watch(client, await self._submit(client), place)
            except* BusUnavailable:
                if not self._can_take_over():
                    raise

    @asynccontextmanager
    async def _mesh(self) -> AsyncIterator[Place]:
        """A mesh that serves the app while the block runs."""
        request, settings = self._request, self._settings
        async with found_or_embedded(request.server, request.store, settings.prefix, self._notes) as place:
            self._place = place
            if place.named_by == EMBEDDED:
                self._served = self._served or self._demo()
                _check_served(self._request, self._served)
            if self._served is None:
                yield place
                return
            app, version = self._served.app, self._served.version
            services = services_of(app)
            if place.named_by == EMBEDDED:
                services.insert(0, "router")
                if request.context is not None:
                    services.insert(1, "session-store")
            config = ServiceConfig(
                url=place.url, settings=settings, app=app, app_version=version,
                system_url=system_url(place.url, os.environ, request.store),
                database=database_on(request.store),
            )  # fmt: skip
            async with serving(Fleet(services, config), self._notes.warn):
                yield place

    def _demo(self) -> Served:
        demo = load_served(None)
        self._notes.say(f"no --app is given: using the built-in demo app ({demo_in_words()})")
        return demo

    async def _submit(self, client: Client) -> Task:
        if self._submitted:
            return client.task(self._follower.id)
        request = self._request
        task = await client.submit(
            request.agent, request.input, task_id=self._follower.id, context_id=request.context
        )  # fmt: skip
        self._submitted = True
        self._notes.say(f"task {task.id}")
        return task

    async def _watch(self, client: Client, task: Task, place: Place) -> int:
        """Shows the task to its end, or until it is time to leave."""
        follower, interrupts = self._follower, self._interrupts
        interrupts.cancelling(None)
        events = task.tail(follower.cursor)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(follower.follow(events, self._printer, client.restore))
            leaving = group.create_task(_cancel_and_leave(task, interrupts, self._notes))
            beside = [
                group.create_task(complain(follower, self._notes, place, Subjects(self._settings.prefix))),
                group.create_task(raise_when_gone(place, self._request.store, patience_s=GONE_S)),
            ]
            await asyncio.wait((following, leaving), return_when=asyncio.FIRST_COMPLETED)
            for other in (following, leaving, *beside):
                other.cancel()
        interrupts.cancelling(asyncio.current_task())
        if not following.cancelled():
            return following.result()
        self._notes.warn(f"left; the task goes on where its app is served: mesh tail {follower.id}")
        return LEFT

    async def _writes_text(self) -> bool:
        assert self._place is not None
        return await writes_text(self._place.url, Subjects(self._settings.prefix), self._follower.id)

    def _can_take_over(self) -> bool:
        if self._place is None or not has_gone(self._place, self._request.store):
            return False
        return self._request.agent in (self._served or load_served(None)).app.agents


def _check_served(request: Request, served: Served) -> None:
    """Nobody can join a mesh that lives for this task only, whatever apps its store remembers."""
    agents = served.app.agents
    if request.agent in agents:
        return
    near = difflib.get_close_matches(request.agent, agents, n=3)
    names = f"did you mean {' or '.join(map(repr, near))}?" if near else f"its agents: {served.agents}."
    other = "" if request.app else " An app of your own is served with --app app.py:app"
    raise InvalidInput(f"app '{served.app.name}' has no agent '{request.agent}'", hint=names + other)


async def _cancel_and_leave(task: Task, interrupts: Interrupts, notes: Notes) -> None:
    """The first signal cancels; returns at the second, if nobody took the cancel, or some time after SIGTERM."""
    second = interrupts.count + 2
    await interrupts.wait(second - 1)
    notes.say("canceling; Ctrl-C again leaves at once")
    canceling = asyncio.create_task(_cancel(task, notes))
    try:
        if await interrupts.until_done(canceling, count=second) and canceling.result():
            with suppress(TimeoutError):
                async with asyncio.timeout(TERMINATED_S if interrupts.terminated else None):
                    await interrupts.wait(second)
    finally:
        canceling.cancel()


async def _cancel(task: Task, notes: Notes) -> bool:
    """Whether a router has taken it."""
    try:
        await task.cancel("Ctrl-C")
    except MeshError as error:
        notes.warn(str(error))
        return False
    return True
