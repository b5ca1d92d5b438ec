"""Just enough of the NATS protocol to ask a server one question.

A client library would retry, log and hold state; to learn whether a server that starts this moment is ready, one
connection that fails at once is what is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from mesh.errors import ServerError

INBOX = "_INBOX.mesh_wire"
OPTIONS: dict[str, Any] = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True}


class Info(msgspec.Struct, frozen=True):
    """What a server says first on every connection, as far as it matters here."""

    version: str
    jetstream: bool = False


class NoResponders(Exception):
    """Nobody listens on the subject yet."""


class Wire:
    """One connection that has been greeted."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, info: Info) -> None:
        self._reader = reader
        self._writer = writer
        self.info = info

    async def request(self, subject: str, body: bytes = b"", **credentials: str) -> bytes:
        """The first answer to a request; one per connection.

        Raises: NoResponders; ServerError when the server refuses; ConnectionError when it goes away.
        """
        options = msgspec.json.encode(OPTIONS | credentials)
        self._writer.write(
            b"CONNECT %b\r\nSUB %b 1\r\nPUB %b %b %d\r\n%b\r\n"
            % (options, INBOX.encode(), subject.encode(), INBOX.encode(), len(body), body)
        )
        await self._writer.drain()
        while True:
            line = await self._line()
            verb = line.partition(b" ")[0]
            if verb == b"MSG":
                return await self._payload(line)
            if verb == b"HMSG":
                raise NoResponders(subject)
            if verb == b"-ERR":
                raise ServerError(f"the nats-server refused: {line.decode(errors='replace')}")

    async def _line(self) -> bytes:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the server closed the connection")
        return line.rstrip()

    async def _payload(self, line: bytes) -> bytes:
        size = int(line.rpartition(b" ")[2])
        return (await self._reader.readexactly(size + 2))[:size]


@asynccontextmanager
async def connect(host: str, port: int) -> AsyncIterator[Wire]:
    """A connection on which the server has said its INFO.

    Raises: OSError when there is none to be had; ServerError when something else than a nats-server answers.
    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        line = await reader.readline()
        verb, _, info = line.partition(b" ")
        if verb != b"INFO":
            raise ServerError(f"what answers on port {port} is no nats-server")
        yield Wire(reader, writer, msgspec.json.decode(info, type=Info))
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
