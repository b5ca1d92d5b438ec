"""Object buckets: bodies by digest, in chunks, laid out as the NATS object store so that its tools read them.

An object is visible once its meta message stands, which is published last and fenced: of two uploads of one content the
first wins, and the other removes its chunks. What an upload that was killed leaves are chunks that nothing refers to.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any, Final

import msgspec
from msgspec import Struct

from mesh.bus.answers import STREAM_NOT_FOUND, ApiError
from mesh.bus.api import Api
from mesh.bus.definitions import chunks_subject, meta_subject, objects_stream
from mesh.bus.messages import Conflict, StoredMessage
from mesh.bus.publish import Publisher
from mesh.bus.read import Reader
from mesh.bus.scan import Scan
from mesh.errors import ArtifactDamaged, ArtifactMissing, BusUnavailable, MeshError
from schemas.instant import unix
from schemas.object import digest_of, is_digest, named
from schemas.unreadable import UNREADABLE

CHUNK_BYTES: Final = 128 * 1024
# Content that is put again counts as new after this long; what is younger than twice this should not be removed.
REFRESH_S: Final = 12 * 3600.0
_WINDOW: Final = 8
_READ_AHEAD: Final = 16
_TIDY_S: Final = 2.0
_LOOKS: Final = 20
_LOOK_S: Final = 0.1
_UPLOADED: Final = "upload"


class StoredObject(Struct, frozen=True, kw_only=True):
    """One object of a bucket."""

    digest: str
    size: int


class _Options(Struct, omit_defaults=True):
    max_chunk_size: int = 0


class _Meta(Struct, kw_only=True, omit_defaults=True):
    """What the NATS object store says of an object; the digest is in its own spelling."""

    name: str
    bucket: str
    nuid: str
    size: int = 0
    mtime: str = "0001-01-01T00:00:00Z"
    chunks: int = 0
    digest: str = ""
    deleted: bool = False
    options: _Options | None = None


class _Found(Struct, frozen=True):
    meta: _Meta
    seq: int
    at: str

    @property
    def age_s(self) -> float:
        """How long ago it was put last, by this machine's clock."""
        return time.time() - unix(self.at)


class _Upload(Struct):
    """Chunks on their way, until their object is visible or they are removed."""

    subject: str
    nuid: str
    size: int = 0
    chunks: int = 0
    digest: str = ""


class ObjectStores:
    """Reads and writes the object buckets of one bus.

    `ready` returns once the connection that the others use stands.
    """

    def __init__(
        self, ready: Callable[[], Awaitable[object]], *, api: Api, publisher: Publisher, reader: Reader, scan: Scan
    ) -> None:
        self._ready = ready
        self._api = api
        self._publisher = publisher
        self._reader = reader
        self._scan = scan

    async def put(self, bucket: str, source: bytes | AsyncIterable[bytes]) -> StoredObject:
        """Keep a body; one that is kept already is not sent again, or not kept twice."""
        await self._ready()
        if isinstance(source, bytes) and await self._kept(bucket, digest_of(source)):
            return StoredObject(digest=digest_of(source), size=len(source))
        nuid = secrets.token_hex(11)
        upload = _Upload(chunks_subject(bucket, nuid), nuid)
        try:
            async with self._explained(bucket):
                await self._send(upload, source)
        except BaseException:
            await self._drop(bucket, nuid)
            raise
        try:
            await self._publish_meta(bucket, upload)
        except BusUnavailable:
            # Nobody knows whether the object is visible, so its chunks stay.
            raise
        except MeshError:
            await self._drop(bucket, nuid)
            raise
        return StoredObject(digest=upload.digest, size=upload.size)

    async def find(self, bucket: str, digest: str) -> StoredObject | None:
        """The object of this digest, or None; what one replica lacks is looked for at the leader."""
        await self._ready()
        found = await self._find(bucket, digest)
        return StoredObject(digest=digest, size=found.meta.size) if found else None

    async def open(self, bucket: str, digest: str) -> AsyncGenerator[bytes]:
        """The body in pieces; the last one comes before it is known whether all fit the digest."""
        await self._ready()
        found = await self._find(bucket, digest)
        if found is None:
            raise ArtifactMissing(f"bucket '{bucket}' holds nothing under {digest}", hint="it may have been removed")
        sha, size = hashlib.sha256(), 0
        async for piece in self._chunks(bucket, found.meta):
            sha.update(piece)
            size += len(piece)
            yield piece
        if size != found.meta.size or named(sha.hexdigest()) != digest:
            raise ArtifactDamaged(
                f"what bucket '{bucket}' holds under {digest} is damaged: {size} of {found.meta.size} bytes, "
                f"digest {named(sha.hexdigest())}"
            )

    async def remove(self, bucket: str, digest: str, older_than_s: float = 0.0) -> bool:
        """Remove an object; False for one that was put too lately, or is put in this moment."""
        await self._ready()
        found = await self._find(bucket, digest)
        if found is None:
            return True
        gone = _Meta(name=digest, bucket=bucket, nuid=found.meta.nuid, deleted=True)
        if found.age_s < older_than_s or isinstance(await self._write_meta(gone, expected=found.seq), Conflict):
            return False
        await self._drop(bucket, found.meta.nuid)
        return True

    async def objects(self, bucket: str) -> AsyncIterator[StoredObject]:
        """Every object that is visible."""
        await self._ready()
        config = {"filter_subject": meta_subject(bucket, ">"), "deliver_policy": "last_per_subject"}
        async for one in self._scan.messages(objects_stream(bucket), config):
            meta = msgspec.json.decode(one.message.data, type=_Meta)
            if not meta.deleted:
                yield StoredObject(digest=meta.name, size=meta.size)

    async def _kept(self, bucket: str, digest: str) -> bool:
        """Whether it need not be sent; one that was put long ago is put again, so that nobody removes it now."""
        while True:
            found = await self._find(bucket, digest)
            if found is None or found.age_s < REFRESH_S:
                return found is not None
            if not isinstance(await self._write_meta(found.meta, expected=found.seq), Conflict):
                return True

    async def _find(self, bucket: str, digest: str) -> _Found | None:
        if not is_digest(digest):
            raise ArtifactMissing(f"{digest!r} is no digest", hint="a digest is sha256- and 64 hexadecimal digits")
        stream, subject = objects_stream(bucket), meta_subject(bucket, _encoded(digest))
        async with self._explained(bucket):
            for leader in (False, True):
                message = await self._reader.newest(stream, subject, leader=leader)
                found = _meta_of(message)
                if found is not None:
                    return found
        return None

    @asynccontextmanager
    async def _explained(self, bucket: str) -> AsyncIterator[None]:
        """Says so where the bucket itself was removed: all that a request tells is that nobody answers it."""
        try:
            yield
        except BusUnavailable as error:
            if not await self._is_gone(bucket):
                raise
            cure = "`mesh doctor --apply` creates an empty one; what it held is lost"
            raise BusUnavailable(f"the object bucket '{bucket}' is not there", hint=cure) from error

    async def _is_gone(self, bucket: str) -> bool:
        with suppress(MeshError, TimeoutError):
            async with asyncio.timeout(_TIDY_S):
                info = await self._api.call(f"STREAM.INFO.{objects_stream(bucket)}", None, dict[str, Any])
                return isinstance(info, ApiError) and info.err_code == STREAM_NOT_FOUND
        return False

    async def _send(self, upload: _Upload, source: bytes | AsyncIterable[bytes]) -> None:
        """Publishes the chunks, several at a time; raises if they do not stand in their order."""
        sha, sequences = hashlib.sha256(), list[int]()
        on_way: deque[asyncio.Task[int]] = deque()
        try:
            async for chunk in _in_chunks(source):
                sha.update(chunk)
                upload.size += len(chunk)
                upload.chunks += 1
                if len(on_way) == _WINDOW:
                    sequences.append(await on_way.popleft())
                on_way.append(asyncio.create_task(self._send_chunk(upload.subject, chunk)))
            while on_way:
                sequences.append(await on_way.popleft())
        finally:
            await _settle(on_way)
        if any(later <= earlier for earlier, later in pairwise(sequences)):
            raise BusUnavailable(f"the chunks of {upload.subject} were not stored in their order")
        upload.digest = named(sha.hexdigest())

    async def _send_chunk(self, subject: str, chunk: bytes) -> int:
        return await self._publisher.publish(subject, chunk, kind=_UPLOADED)

    async def _publish_meta(self, bucket: str, upload: _Upload) -> None:
        """Makes the object visible, unless another upload was first."""
        meta = _Meta(
            name=upload.digest, bucket=bucket, nuid=upload.nuid, size=upload.size, chunks=upload.chunks,
            digest=_foreign(upload.digest), options=_Options(CHUNK_BYTES),
        )  # fmt: skip
        while True:
            newest = await self._newest_meta(bucket, upload.digest)
            if newest is not None and not newest.meta.deleted and await self._kept(bucket, upload.digest):
                return await self._drop(bucket, upload.nuid)
            if not isinstance(await self._write_meta(meta, expected=newest.seq if newest else 0), Conflict):
                return None

    async def _write_meta(self, meta: _Meta, *, expected: int) -> int | Conflict:
        return await self._publisher.append(
            meta_subject(meta.bucket, _encoded(meta.name)), msgspec.json.encode(meta), expected=expected,
            headers={"Nats-Rollup": "sub"}, kind=_UPLOADED,
        )  # fmt: skip

    async def _newest_meta(self, bucket: str, digest: str) -> _Found | None:
        message = await self._reader.newest(objects_stream(bucket), meta_subject(bucket, _encoded(digest)), leader=True)
        return _decoded(message) if message else None

    async def _drop(self, bucket: str, nuid: str) -> None:
        """Removes the chunks of an upload; those that this cannot reach take room and nothing else."""
        with suppress(MeshError, TimeoutError):
            async with asyncio.timeout(_TIDY_S):
                body = {"filter": chunks_subject(bucket, nuid)}
                await self._api.require(f"STREAM.PURGE.{objects_stream(bucket)}", body, dict[str, Any])

    async def _chunks(self, bucket: str, meta: _Meta) -> AsyncIterator[bytes]:
        """The chunks in their order; a replica that lacks some is given time."""
        stream, subject = objects_stream(bucket), chunks_subject(bucket, meta.nuid)
        first, count, looks = 1, 0, 0
        while count < meta.chunks:
            batch = await self._reader.batch(stream, subject, first=first, count=min(_READ_AHEAD, meta.chunks - count))
            for message in batch:
                yield message.data
            count += len(batch)
            if batch:
                first, looks = batch[-1].seq + 1, 0
                continue
            if not await self._more(stream, subject, first):
                return
            looks += 1
            if looks > _LOOKS:
                raise BusUnavailable(f"{subject}: a replica does not get the chunks that the leader has")
            await asyncio.sleep(_LOOK_S)

    async def _more(self, stream: str, subject: str, first: int) -> bool:
        newest = await self._reader.newest(stream, subject, leader=True)
        return newest is not None and newest.seq >= first


async def _settle(on_way: Collection[asyncio.Task[int]]) -> None:
    """Waits for chunks that were sent: what is stored later than the removal of the others would stay."""
    if on_way:
        await asyncio.wait(on_way, timeout=_TIDY_S)
        for task in on_way:
            task.cancel()
        await asyncio.gather(*on_way, return_exceptions=True)


def _decoded(message: StoredMessage) -> _Found:
    try:
        return _Found(msgspec.json.decode(message.data, type=_Meta), message.seq, message.at)
    except UNREADABLE as error:
        raise ArtifactDamaged(f"{message.subject} cannot be read: {error}") from error


def _meta_of(message: StoredMessage | None) -> _Found | None:
    found = _decoded(message) if message else None
    return None if found is None or found.meta.deleted else found


async def _in_chunks(source: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The source cut and joined to chunks of the same size but for the last."""
    if isinstance(source, bytes):
        for start in range(0, len(source), CHUNK_BYTES):
            yield source[start : start + CHUNK_BYTES]
        return
    held = bytearray()
    async for piece in source:
        held += piece
        while len(held) >= CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES])
            del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)


def _encoded(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _foreign(digest: str) -> str:
    """A digest as the NATS object store spells it."""
    raw = bytes.fromhex(digest.removeprefix("sha256-"))
    return f"SHA-256={base64.urlsafe_b64encode(raw).decode()}"


__all__ = ["CHUNK_BYTES", "ObjectStores", "StoredObject"]
