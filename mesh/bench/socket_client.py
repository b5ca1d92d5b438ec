"""The least a client can do: prepared bytes out, answers counted in what comes in.

What it reaches is about what the broker can do; what the mesh's own bus reaches less is the price of Python.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from mesh.errors import ServerError

INBOX: Final = "_INBOX_bench"
_CHUNK: Final = 1 << 20
_BATCH: Final = 100
_SEQ: Final = b'"seq":'
_GREETING: Final = b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n'


def publishes(subject: str, body: bytes, count: int, *, reply: str = "") -> Iterator[bytes]:
    """`count` messages on one subject."""
    for _ in range(count):
        yield b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(body), body)


def appends(prefix: str, body: bytes, count: int) -> Iterator[bytes]:
    """`count` fenced appends, each the first on a subject of its own."""
    headers = b"NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\n"
    sizes = b"%d %d" % (len(headers), len(headers) + len(body))
    for index in range(count):
        yield b"HPUB %b.%d %b %b\r\n%b%b\r\n" % (prefix.encode(), index, INBOX.encode(), sizes, headers, body)


class SocketClient:
    """One greeted connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._rest = b""

    async def listen(self, subject: str) -> None:
        """Subscribes; the broker has it on return."""
        self._writer.write(b"SUB %b 1\r\nPING\r\n" % subject.encode())
        while not (await self._reader.readline()).startswith(b"PONG"):
            pass

    async def send(self, messages: Iterator[bytes]) -> None:
        """Writes everything, as fast as the socket takes it."""
        for batch in _batches(messages):
            self._writer.write(batch)
            await self._writer.drain()

    async def take(self, size: int) -> None:
        """Returns when `size` bytes have come."""
        while size > 0:
            size -= len(await self._read())

    async def store(self, messages: Iterator[bytes], *, window: int) -> None:
        """Publishes into a stream with at most `window` acknowledgements owed; raises ServerError on a refusal."""
        owed = 0
        for batch in _batches(messages, min(window, _BATCH)):
            self._writer.write(batch)
            owed += batch.count(b"PUB ")
            while owed > window - min(window, _BATCH):
                owed -= await self._acknowledged()
        while owed:
            owed -= await self._acknowledged()

    async def _acknowledged(self) -> int:
        data = self._rest + await self._read()
        if b'"error"' in data:
            raise ServerError(f"the broker refused a publish of the benchmark: {data[:300]!r}")
        self._rest = data[-(len(_SEQ) - 1) :]
        return data.count(_SEQ)

    async def _read(self) -> bytes:
        data = await self._reader.read(_CHUNK)
        if not data:
            raise ConnectionResetError("the broker closed the connection")
        return data


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[SocketClient]:
    """A connection to the broker at `url`."""
    host, _, port = url.removeprefix("nats://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=_CHUNK)
    try:
        await reader.readline()
        writer.write(_GREETING)
        yield SocketClient(reader, writer)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _batches(messages: Iterator[bytes], size: int = _BATCH) -> Iterator[bytes]:
    batch: list[bytes] = []
    for message in messages:
        batch.append(message)
        if len(batch) == size:
            yield b"".join(batch)
            batch = []
    if batch:
        yield b"".join(batch)
