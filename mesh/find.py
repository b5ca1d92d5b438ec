"""Where the mesh is that a command talks to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

from msgspec import Struct

from mesh.errors import BusUnavailable, InvalidInput, NotAMesh, PermissionDenied
from mesh.server import read_server_json
from mesh.server.lock import is_locked
from mesh.server.store import Store

PORT: Final = 4222
LOCAL_URL: Final = f"nats://127.0.0.1:{PORT}"
DEFAULT: Final = "the default"
VARIABLE: Final = "MESH_SERVER"
SYSTEM_VARIABLE: Final = "MESH_SYSTEM_URL"
SCHEMES: Final = ("nats", "tls", "ws", "wss")
RECORD: Final = "server.json"
LOOK_S: Final = 0.5
PROBE_S: Final = 2.0


class Place(Struct, frozen=True):
    """A server's URL, and who named it."""

    url: str
    named_by: str


def named_place(server: str | None, environ: Mapping[str, str], store: Path) -> Place | None:
    """What `--server`, `MESH_SERVER` or a living server of `store` names, in this order.

    Raises: InvalidInput for what is no URL.
    """
    for url, named_by in ((server, "--server"), (environ.get(VARIABLE), VARIABLE)):
        if url:
            return Place(_checked(url, named_by), named_by)
    if record := read_server_json(store):
        return Place(record.url, str(store / RECORD))
    return None


async def find_place(server: str | None, environ: Mapping[str, str], *, store: Path, prefix: str) -> Place:
    """The mesh to talk to: a named one, else the local one if a mesh answers there.

    A named one is not tried here: the caller connects and hears why that fails.

    Raises: BusUnavailable that says what was looked at.
    """
    named = named_place(server, environ, store)
    if named is not None:
        return named
    why = await _refusal(LOCAL_URL, prefix)
    if why is None:
        return Place(LOCAL_URL, DEFAULT)
    raise BusUnavailable(
        f"no mesh is running: there is none in {store}, and {why}",
        hint=f"start one with `mesh dev`, or name a server with --server or {VARIABLE}",
    )


def system_url(url: str, environ: Mapping[str, str], store: Path) -> str:
    """The server at `url` for a user of its system account, as the environment or the store says; else empty."""
    record = read_server_json(store)
    return environ.get(SYSTEM_VARIABLE) or (record.system_url if record and record.url == url else "")


def _checked(urls: str, named_by: str) -> str:
    for url in urls.split(","):
        try:
            parts = urlsplit(url.strip() if "://" in url else f"nats://{url.strip()}")
            usable = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise InvalidInput(f"{named_by}: {url!r} is no address of a server", hint="write nats://host:4222")
    return urls


def has_gone(place: Place, store: Path) -> bool:
    """Whether this is the mesh of a folder, and the process that held its store has ended."""
    return place.named_by == str(store / RECORD) and not is_locked(Store(store).lock_path)


async def raise_when_gone(place: Place, store: Path, *, patience_s: float) -> NoReturn:
    """Waits for ever, unless the mesh has gone and does not come back within `patience_s`.

    Raises: BusUnavailable.
    """
    gone_s = 0.0
    while gone_s < patience_s:
        await asyncio.sleep(LOOK_S)
        gone_s = gone_s + LOOK_S if has_gone(place, store) else 0.0
    raise BusUnavailable(
        f"the mesh of {store} has ended, so nobody goes on with the task now",
        hint="start `mesh dev`; it takes the task up again, and `mesh tail` shows it",
    )


async def _refusal(url: str, prefix: str) -> str | None:
    """Why no mesh can be used there; None if one can."""
    from mesh.client import Client

    try:
        async with Client.connect(url, prefix=prefix, timeout_s=PROBE_S):
            return None
    except NotAMesh as error:
        return error.message
    except PermissionDenied:
        return f"the NATS server at {url} wants credentials"
    except BusUnavailable:
        return f"nothing answers at {url}"
