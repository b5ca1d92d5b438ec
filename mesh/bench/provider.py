"""A model provider on the loopback interface that speaks chat completions, with canned answers.

It costs the machine as little as it can, so that what is measured is the way there and back.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

import msgspec

from mesh.bench.app import ANSWER, TOOL, TOOL_INPUT

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"
_FROM_TOOL: Final = b'"role":"tool"'


class Provider:
    """Serves from `__aenter__` on; a conversation that holds a tool's result gets the answer, any other one a call."""

    async def __aenter__(self) -> Provider:
        self._connections: set[asyncio.Transport] = set()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self._connections), "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for connection in tuple(self._connections):
            connection.abort()
        await self._server.wait_closed()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._server.sockets[0].getsockname()
        return host, port

    @property
    def url(self) -> str:
        """The base URL for a client."""
        return "http://{}:{}/v1".format(*self.address)


class _Connection(asyncio.Protocol):
    """One request after the other; what a client sends ahead waits."""

    def __init__(self, connections: set[asyncio.Transport]) -> None:
        self._connections = connections
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(_HEAD_END)) >= 0:
            whole = end + len(_HEAD_END) + _length(bytes(self._received[:end]))
            if len(self._received) < whole:
                return
            body = bytes(self._received[end:whole])
            del self._received[:whole]
            self._transport.write(_ANSWER if _FROM_TOOL in body else _CALL)


def _length(head: bytes) -> int:
    at = head.lower().find(_LENGTH) + len(_LENGTH)
    return int(head[at:].partition(b"\r\n")[0])


def _response(delta: dict[str, Any], reason: str) -> bytes:
    frames = (
        _chunk([{"index": 0, "delta": delta, "finish_reason": None}]),
        _chunk([{"index": 0, "delta": {}, "finish_reason": reason}]),
        _chunk([], usage={"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}),
        b"[DONE]",
    )
    body = b"".join(b"data: " + frame + b"\n\n" for frame in frames)
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def _chunk(choices: list[dict[str, Any]], **more: Any) -> bytes:
    kind = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "bench"}
    return msgspec.json.encode({**kind, "choices": choices, **more})


def _call() -> dict[str, Any]:
    function = {"name": TOOL, "arguments": msgspec.json.encode(TOOL_INPUT).decode()}
    return {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}


_CALL: Final = _response(_call(), "tool_calls")
_ANSWER: Final = _response({"content": ANSWER}, "stop")
