"""The mesh that a client command talks to."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from mesh.bus import Bus
from mesh.cli.notes import Notes
from mesh.cli.options import STORE
from mesh.client import Client
from mesh.errors import BusUnavailable, StoreLocked
from mesh.find import DEFAULT, Place, find_place
from mesh.probe import require_mesh
from mesh.runtime import embedded
from mesh.server import EmbeddedServer
from mesh.settings import settings_from
from mesh.subjects import Subjects

EMBEDDED: Final = "the embedded server"


class Reachable(Struct, frozen=True):
    """A mesh that answers, and its names."""

    place: Place
    names: Subjects

    @property
    def url(self) -> str:
        """Where to connect to."""
        return self.place.url

    @property
    def asleep(self) -> bool:
        """Whether only its store is there, with no service at work."""
        return self.place.named_by == EMBEDDED


@asynccontextmanager
async def connected(server: str | None) -> AsyncIterator[Client]:
    """A client of the mesh that is running."""
    prefix = settings_from(os.environ).prefix
    place = await find_place(server, os.environ, store=STORE, prefix=prefix)
    async with Client.connect(place.url, prefix=prefix) as client:
        yield client


@asynccontextmanager
async def readable(server: str | None, store: Path) -> AsyncIterator[Reachable]:
    """A mesh whose logs can be read: a running one, else a broker on the store for as long as that takes.

    Raises: BusUnavailable where there is neither.
    """
    names = Subjects(settings_from(os.environ).prefix)
    if (store / "jetstream").is_dir():
        async with found_or_embedded(server, store, names.prefix) as place:
            yield Reachable(place, names)
    else:
        yield Reachable(await find_place(server, os.environ, store=store, prefix=names.prefix), names)


@asynccontextmanager
async def found_or_embedded(
    server: str | None, store: Path, prefix: str, notes: Notes | None = None
) -> AsyncIterator[Place]:
    """The mesh that is running, else an embedded broker on the store while the block runs."""
    async with AsyncExitStack() as stack:
        try:
            place = await find_place(server, os.environ, store=store, prefix=prefix)
            if notes and place.named_by == DEFAULT:
                notes.say(f"using the mesh that runs at {place.url}; --server names another")
        except BusUnavailable:
            server_here = EmbeddedServer(store, durability=settings_from(os.environ).profile)
            try:
                url = await stack.enter_async_context(embedded(server_here, (notes or Notes()).warn))
            except StoreLocked:
                # Another command has begun at the same moment; its broker will do.
                place = await find_place(server, os.environ, store=store, prefix=prefix)
            else:
                place = Place(url, EMBEDDED)
                if notes:
                    notes.say(f"no mesh is running: this one is on {store}, for the time of this task")
        yield place


@asynccontextmanager
async def connected_bus(url: str, name: str) -> AsyncIterator[Bus]:
    """A bus, for what a client does not offer."""
    bus = await Bus.connect(url, name=name)
    try:
        yield bus
    finally:
        await bus.aclose()


def database_on(store: Path) -> str:
    """The database of a session store that is served with a mesh of this folder."""
    return os.environ.get("MESH_DATABASE") or f"sqlite:///{store / 'sessions.db'}"


@asynccontextmanager
async def operated(server: str | None, name: str) -> AsyncIterator[tuple[Bus, Subjects]]:
    """A bus to the mesh that is running, and its names."""
    names = Subjects(settings_from(os.environ).prefix)
    place = await find_place(server, os.environ, store=STORE, prefix=names.prefix)
    async with connected_bus(place.url, name) as bus:
        await require_mesh(bus, names)
        yield bus, names
