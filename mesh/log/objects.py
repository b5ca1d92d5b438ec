"""The object bucket of a mesh: asked once, or for as long as it takes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import aclosing
from typing import Protocol, TypeVar

from mesh.bus import Bus
from mesh.errors import TooLarge
from mesh.subjects import Subjects
from schemas.object import JSON, ObjectRef

T = TypeVar("T")


class Again(Protocol):
    """Asks until the broker answers."""

    async def __call__(self, ask: Callable[[], Awaitable[T]], /) -> T: ...


async def _once(ask: Callable[[], Awaitable[T]], /) -> T:
    return await ask()


class MeshObjects:
    """Bodies by digest, as a part of one mesh; `again` waits out a broker that is away or full.

    A stream can be sent only once, so there its failures reach the caller.
    """

    def __init__(self, bus: Bus, names: Subjects, again: Again = _once) -> None:
        self._bus = bus
        self._bucket = names.artifacts
        self._again = again

    async def put(self, source: bytes | AsyncIterable[bytes], media_type: str = JSON) -> ObjectRef:
        again = self._again if isinstance(source, bytes) else _once
        kept = await again(lambda: self._bus.put_object(self._bucket, source))
        return ObjectRef(digest=kept.digest, size=kept.size, media_type=media_type)

    async def read(self, digest: str, *, max_bytes: int | None = None) -> bytes:
        return await self._again(lambda: self._read(digest, max_bytes))

    def open(self, digest: str) -> AsyncGenerator[bytes]:
        return self._bus.open_object(self._bucket, digest)

    async def _read(self, digest: str, max_bytes: int | None) -> bytes:
        body = bytearray()
        async with aclosing(self.open(digest)) as pieces:
            async for piece in pieces:
                body += piece
                if max_bytes is not None and len(body) > max_bytes:
                    raise TooLarge(f"{digest} is longer than {max_bytes} bytes", hint="read it as a stream")
        return bytes(body)
