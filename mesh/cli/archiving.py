"""The work of `mesh archive` and `mesh restore`."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import IO, Final

import typer

from mesh.bus import Bus
from mesh.cli.fetching import beside, check_free
from mesh.cli.notes import Notes
from mesh.cli.outcome import COMPLETED
from mesh.cli.places import connected_bus, readable
from mesh.errors import InvalidInput
from mesh.probe import require_mesh
from mesh.sessions import archive
from mesh.sessions.archive import PIECE_BYTES, About
from mesh.subjects import Subjects
from schemas.object import is_digest

ON_THE_BROKER: Final = "objects"


async def archive_task(id: str, to: str, *, force: bool, server: str | None, store: Path) -> int:
    """Writes the archive, and prints its digest if the broker keeps it; the exit code."""
    async with _bus(server, store) as (bus, names):
        if to == ON_THE_BROKER:
            with tempfile.TemporaryFile() as file:
                about = await archive.archive(bus, names, id, file)
                file.seek(0)
                kept = await bus.put_object(names.archives, _pieces(file))
            typer.echo(kept.digest)
        else:
            about = await _to_file(bus, names, id, Path(to), force)
            Notes().say(f"written to {to}")
    if about.missing:
        Notes().warn(f"{len(about.missing)} digests in the log name nothing that is kept: {', '.join(about.missing)}")
    return COMPLETED


async def restore_task(source: str, *, server: str | None, store: Path) -> int:
    """Restores a log, and prints the task's id; the exit code."""
    async with _bus(server, store) as (bus, names):
        way = _from_broker if is_digest(source) else _from_file
        about = await way(bus, names, source)
    typer.echo(about.task)
    return COMPLETED


async def _to_file(bus: Bus, names: Subjects, id: str, target: Path, force: bool) -> About:
    check_free(target, force)
    try:
        with beside(target) as (file, finish):
            about = await archive.archive(bus, names, id, file)
            finish(force)
    except OSError as error:
        raise InvalidInput(f"{target} cannot be written: {error.strerror or error}") from error
    return about


async def _from_broker(bus: Bus, names: Subjects, digest: str) -> About:
    with tempfile.TemporaryFile() as file:
        async with aclosing(bus.open_object(names.archives, digest)) as pieces:
            async for piece in pieces:
                file.write(piece)
        return await archive.restore(bus, names, file)


async def _from_file(bus: Bus, names: Subjects, source: str) -> About:
    try:
        with _opened(Path(source)) as file:
            return await archive.restore(bus, names, file)
    except OSError as error:
        raise InvalidInput(f"{source} cannot be read: {error.strerror or error}") from error


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece


@asynccontextmanager
async def _bus(server: str | None, store: Path) -> AsyncIterator[tuple[Bus, Subjects]]:
    async with readable(server, store) as mesh, connected_bus(mesh.url, "archive") as bus:
        await require_mesh(bus, mesh.names)
        yield bus, mesh.names
