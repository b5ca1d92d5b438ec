"""One question to a server over a raw connection."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec

from mesh.server import wire


async def ask(url: str, subject: str, body: object = None, **credentials: str) -> dict[str, Any]:
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    payload = b"" if body is None else msgspec.json.encode(body)
    async with wire.connect(address.hostname, address.port) as connection:
        answer = await connection.request(subject, payload, **credentials)
    return msgspec.json.decode(answer, type=dict[str, Any])


async def create_stream(url: str) -> None:
    stream = {"name": "S", "subjects": ["s.>"], "retention": "limits", "storage": "file"}
    assert "error" not in await ask(url, "$JS.API.STREAM.CREATE.S", stream)


async def publish(url: str, body: str) -> int:
    acknowledged = await ask(url, "s.a", body)
    return int(acknowledged["seq"])


async def count(url: str) -> int:
    info = await ask(url, "$JS.API.STREAM.INFO.S")
    return int(info["state"]["messages"])
