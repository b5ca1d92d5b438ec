"""A provider on the loopback interface: HTTP and server-sent events, written by hand so that it can misbehave."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec

END_OF_BODY = b"0\r\n\r\n"


@dataclass
class Exchange:
    """One request as it came; `closed` is set when the client has gone."""

    path: str
    headers: dict[str, str]
    body: Any
    writer: asyncio.StreamWriter
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def begin(self, status: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{k}: {v}" for k, v in headers.items())]
        await self.send("\r\n".join([*lines, "", ""]).encode())

    async def frames(self, frames: Iterable[str]) -> None:
        await self.begin(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        for frame in frames:
            data = frame.encode()
            await self.send(b"%x\r\n%s\r\n" % (len(data), data))


Answer = Callable[[Exchange], Awaitable[None]]


class ProviderServer:
    """Gives its `answers` one by one and keeps the requests."""

    def __init__(self) -> None:
        self.answers: deque[Answer] = deque()
        self.exchanges: list[Exchange] = []
        self.connections = 0
        self._readers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> ProviderServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}/v1"

    @property
    def bodies(self) -> list[Any]:
        return [exchange.body for exchange in self.exchanges]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._readers.add(task)
        self.connections += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._readers.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return False
        line, *rest = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (text.partition(": ") for text in rest)}
        body = msgspec.json.decode(await reader.readexactly(int(headers["content-length"])))
        exchange = Exchange(line.split(" ")[1], headers, body, writer)
        self.exchanges.append(exchange)
        answering = asyncio.ensure_future(self.answers.popleft()(exchange))
        leaving = asyncio.ensure_future(reader.read(1))
        # A client sends nothing before it has its answer: what can be read meanwhile is the end.
        await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            exchange.closed.set()
            answering.cancel()
        results = await asyncio.gather(answering, return_exceptions=True)
        alive = not leaving.done() and not writer.is_closing() and results[0] is None
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        return alive


def streams(frames: Iterable[str]) -> Answer:
    """The frames, and a proper end."""

    async def answer(exchange: Exchange) -> None:
        await exchange.frames(frames)
        await exchange.send(END_OF_BODY)

    return answer


def breaks(frames: Iterable[str]) -> Answer:
    """The frames, and then the connection is gone."""

    async def answer(exchange: Exchange) -> None:
        await exchange.frames(frames)
        exchange.writer.transport.abort()

    return answer


def stalls(frames: Iterable[str]) -> Answer:
    """The frames, and then nothing for as long as the client waits."""

    async def answer(exchange: Exchange) -> None:
        await exchange.frames(frames)
        await asyncio.Event().wait()

    return answer


def silent() -> Answer:
    """Not even a header."""

    async def answer(exchange: Exchange) -> None:
        await asyncio.Event().wait()

    return answer


def refuses(status: int, body: Any, headers: dict[str, str] | None = None) -> Answer:
    """An answer of HTTP; a dict goes out as JSON, text as HTML."""

    async def answer(exchange: Exchange) -> None:
        data = body.encode() if isinstance(body, str) else msgspec.json.encode(body)
        kind = "text/html" if isinstance(body, str) else "application/json"
        given = {"content-type": kind, "content-length": str(len(data)), **(headers or {})}
        await exchange.begin(status, given)
        await exchange.send(data)

    return answer
