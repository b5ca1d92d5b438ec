"""The work of `mesh artifact ls` and `mesh artifact get`."""

from __future__ import annotations

import secrets
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec
import typer

from mesh.cli.notes import Notes
from mesh.cli.outcome import COMPLETED
from mesh.cli.output import Outlet
from mesh.cli.places import readable
from mesh.client import Client
from mesh.errors import InvalidInput


async def list_artifacts(id: str, *, server: str | None, store: Path, json: bool) -> int:
    """Prints one line per artifact; the exit code."""
    async with _client(server, store) as client:
        artifacts = await client.artifacts(id)
    width = max((len(artifact.name) for artifact in artifacts), default=0)
    for artifact in artifacts:
        line = f"{artifact.name:{width}}  {artifact.size:>12} bytes  {artifact.media_type}  {artifact.digest}"
        typer.echo(msgspec.json.encode(artifact) if json else line)
    if not artifacts:
        Notes().say(f"task {id} has written no artifact")
    return COMPLETED


async def fetch_artifact(
    id: str, name: str, output: Path | None, *, force: bool, server: str | None, store: Path
) -> int:
    """Streams an artifact to a file or to stdout; the exit code.

    Raises: InvalidInput for a file that is there, ArtifactMissing.
    """
    target = _target(name, output)
    if target is not None:
        check_free(target, force)
    async with _client(server, store) as client, aclosing(client.open_artifact(id, name)) as pieces:
        if target is None:
            out = Outlet(sys.stdout)
            async for piece in pieces:
                await out.write_bytes(piece)
        else:
            await _save(pieces, target, force)
            Notes().say(f"written to {target}")
    return COMPLETED


@asynccontextmanager
async def _client(server: str | None, store: Path) -> AsyncIterator[Client]:
    async with readable(server, store) as mesh, Client.connect(mesh.url, prefix=mesh.names.prefix) as client:
        yield client


def _target(name: str, output: Path | None) -> Path | None:
    """Where it goes; a task does not choose the folder."""
    if output is not None:
        return None if str(output) == "-" else output
    plain = name.replace("\\", "/").rpartition("/")[2]
    if plain in ("", ".", ".."):
        raise InvalidInput(f"{name!r} is no name for a file", hint="name one with -o FILE, or - for stdout")
    return Path(plain)


async def _save(pieces: AsyncGenerator[bytes], target: Path, force: bool) -> None:
    """Writes beside the target first, so that a file is there with all it should hold, or not at all."""
    try:
        with beside(target) as (file, finish):
            async for piece in pieces:
                file.write(piece)
            finish(force)
    except OSError as error:
        raise InvalidInput(f"{target} cannot be written: {error.strerror or error}") from error


@contextmanager
def beside(target: Path) -> Iterator[tuple[BinaryIO, Callable[[bool], None]]]:
    """A file beside the target, and what puts it in its place; it is removed if nothing does."""
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    with beside.open("xb") as file:

        def finish(force: bool) -> None:
            file.close()
            check_free(target, force)
            beside.replace(target)

        try:
            yield file, finish
        finally:
            beside.unlink(missing_ok=True)


def check_free(target: Path, force: bool) -> None:
    """Raises InvalidInput if something is there that must not be replaced."""
    if target.is_dir():
        raise InvalidInput(f"{target} is a folder", hint="name a file in it: -o FILE")
    if target.exists() and not force:
        raise InvalidInput(f"{target} is there already", hint="--force replaces it, or name another file")
