"""`tls://` is refused before a password is sent, where the server offers no TLS."""

from __future__ import annotations

import asyncio

import pytest

from mesh.bus import Bus
from mesh.errors import BusUnavailable


async def test_a_server_without_tls_is_told_nothing_over_a_tls_url() -> None:
    said: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576}\r\n')
        said.put_nowait(await reader.read(1000))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BusUnavailable, match="offers no TLS"):
            await Bus.connect(f"tls://alice:hunter2@127.0.0.1:{port}", name="client-x")
        assert await said.get() == b""
