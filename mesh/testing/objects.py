"""An object store that is a dict: for handlers that are called without a broker."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable

from mesh.errors import ArtifactMissing, TooLarge
from schemas.object import JSON, ObjectRef, digest_of


class MemoryObjects:
    """Bodies by digest, as `mesh.log.large.Objects` asks for them."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}

    async def put(self, source: bytes | AsyncIterable[bytes], media_type: str = JSON) -> ObjectRef:
        body = source if isinstance(source, bytes) else b"".join([piece async for piece in source])
        self.bodies[digest_of(body)] = body
        return ObjectRef(digest=digest_of(body), size=len(body), media_type=media_type)

    async def read(self, digest: str, *, max_bytes: int | None = None) -> bytes:
        body = self.bodies.get(digest)
        if body is None:
            raise ArtifactMissing(f"nothing is kept under {digest}")
        if max_bytes is not None and len(body) > max_bytes:
            raise TooLarge(f"{digest} is longer than {max_bytes} bytes")
        return body

    async def open(self, digest: str) -> AsyncGenerator[bytes]:
        yield await self.read(digest)
