"""Archives: the log of an ended task with all that it refers to, in one file, and back.

An archive is a zip file of `archive.json`, `commits.jsonl` (one line per commit: where it stood, when the broker took
it, its exact bytes as text) and `objects/<digest>`.
"""

from __future__ import annotations

import asyncio
import hashlib
import zipfile
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import IO, Final

import msgspec
from msgspec import Struct

from mesh.bus import Bus, Conflict, StoredMessage
from mesh.errors import BusUnavailable, InvalidInput, TooLarge
from mesh.log.reading import read_messages
from mesh.subjects import Subjects
from schemas import envelope
from schemas.ids import is_task_id
from schemas.object import digest_of, digests_in, is_digest, named
from schemas.unreadable import UNREADABLE

VERSION: Final = 1
ABOUT: Final = "archive.json"
COMMITS: Final = "commits.jsonl"
OBJECTS: Final = "objects/"
PIECE_BYTES: Final = 128 * 1024
MAX_BATCH: Final = 1_000
# What reading a damaged file raises, or one that other programs pack: encrypted, by a method that is not known here.
NO_ARCHIVE: Final = (
    zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, NotImplementedError, RuntimeError, *UNREADABLE,
)  # fmt: skip


class About(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an archive holds; `commits_digest` is that of its commits, `missing` names objects that were gone."""

    v: int
    task: str
    commits: int
    commits_digest: str
    objects: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class _Line(Struct, frozen=True, kw_only=True):
    seq: int
    at: str
    data: str


async def archive(bus: Bus, names: Subjects, task: str, file: IO[bytes]) -> About:
    """Writes the log of a task that has ended into a file.

    Raises: UnknownTask, InvalidInput for a task that has not ended, ArtifactDamaged, BusUnavailable.
    """
    messages = await read_messages(bus, names, task)
    if envelope.decode(messages[-1].data).head.phase != "ended":
        raise InvalidInput(f"task '{task}' has not ended", hint="only the log of an ended task is complete")
    lines = b"".join(_line(message) for message in messages)
    kept: list[str] = []
    missing: list[str] = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(COMMITS, lines)
        for digest in sorted({digest for message in messages for digest in digests_in(message.data)}):
            (kept if await _pack(bus, names, digest, packed) else missing).append(digest)
        about = About(
            v=VERSION, task=task, commits=len(messages), commits_digest=digest_of(lines), objects=tuple(kept),
            missing=tuple(missing),
        )  # fmt: skip
        packed.writestr(ABOUT, msgspec.json.encode(about))
    return about


async def restore(bus: Bus, names: Subjects, file: IO[bytes]) -> About:
    """Puts the log of an archive back, byte for byte, with its objects; one that is there already stays.

    Objects are put again whatever is there, or one that no log refers to might be removed before this one does.
    All commits come at once, so nobody finds a part of a log and takes it for a task to go on with.

    Raises: InvalidInput for what is no archive, or if another log has this id; TooLarge for a log with more commits
    than a broker takes at once; BusUnavailable if it is not known to be restored: restore it again.
    """
    with _reading():
        packed = zipfile.ZipFile(file)
        about, bodies = _checked(packed)
    with packed:
        if await _is_there(bus, names, about.task, bodies):
            return about
        with _reading():
            for digest in about.objects:
                await _verify(digest, packed)
        for digest in about.objects:
            await bus.put_object(names.artifacts, _pieces(digest, packed))
    if len(bodies) > MAX_BATCH:
        raise TooLarge(f"the log of task '{about.task}' has {len(bodies)} commits", hint=f"{MAX_BATCH} are taken")
    stored = await bus.append_all(names.task(about.task), bodies)
    if isinstance(stored, Conflict) and not await _is_there(bus, names, about.task, bodies):
        raise BusUnavailable(f"the log of task '{about.task}' was written meanwhile", hint="look at it with mesh show")
    return about


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except NO_ARCHIVE as error:
        raise InvalidInput(f"this is no archive of a log: {error}") from error


def _line(message: StoredMessage) -> bytes:
    return msgspec.json.encode(_Line(seq=message.seq, at=message.at, data=message.data.decode())) + b"\n"


async def _pack(bus: Bus, names: Subjects, digest: str, packed: zipfile.ZipFile) -> bool:
    """Copies an object into the archive; False if it is gone, or is none: a digest may stand in any text."""
    if await bus.find_object(names.artifacts, digest) is None:
        return False
    async with aclosing(bus.open_object(names.artifacts, digest)) as pieces:
        with packed.open(OBJECTS + digest, "w", force_zip64=True) as member:
            async for piece in pieces:
                member.write(piece)
    return True


async def _verify(digest: str, packed: zipfile.ZipFile) -> None:
    sha = hashlib.sha256()
    async for piece in _pieces(digest, packed):
        sha.update(piece)
    if named(sha.hexdigest()) != digest:
        raise InvalidInput(f"the archive is damaged: its object {digest} has the digest {named(sha.hexdigest())}")


async def _pieces(digest: str, packed: zipfile.ZipFile) -> AsyncIterator[bytes]:
    with packed.open(OBJECTS + digest) as member:
        while piece := member.read(PIECE_BYTES):
            yield piece
            await asyncio.sleep(0)


def _checked(packed: zipfile.ZipFile) -> tuple[About, list[bytes]]:
    """What the archive says, and its commits, which must be a whole log of an ended task."""
    about = msgspec.json.decode(packed.read(ABOUT), type=About)
    lines = packed.read(COMMITS)
    if about.v != VERSION or not is_task_id(about.task) or not all(map(is_digest, about.objects)):
        raise InvalidInput(f"this archive has version {about.v}; known here is {VERSION}")
    if digest_of(lines) != about.commits_digest:
        raise InvalidInput("the archive is damaged: its commits do not fit their digest")
    bodies = [msgspec.json.decode(line, type=_Line).data.encode() for line in lines.splitlines()]
    commits = [envelope.decode(body) for body in bodies]
    if [one.n for one in commits] != list(range(len(commits))) or {one.task for one in commits} != {about.task}:
        raise InvalidInput("the archive does not hold one whole log")
    if commits[-1].head.phase != "ended":
        raise InvalidInput(f"task '{about.task}' has not ended in this archive")
    return about, bodies


async def _is_there(bus: Bus, names: Subjects, task: str, bodies: list[bytes]) -> bool:
    """Whether exactly this log is there; raises InvalidInput for another one."""
    if await bus.newest(names.tasks, names.task(task), leader=True) is None:
        return False
    there = await read_messages(bus, names, task)
    if [message.data for message in there] != bodies:
        raise InvalidInput(
            f"there is another log of task '{task}'", hint="an id is unique for as long as its log is kept"
        )
    return True
