"""Headers read here are what the client library makes of them."""

from __future__ import annotations

import pytest
from nats.aio.client import Client

from mesh.bus.arrival import Msg, parse_headers

SEEN = [
    b"NATS/1.0\r\nNats-Sequence: 7\r\nNats-Subject: mesh.task.x.x\r\n\r\n",
    b"NATS/1.0\r\nA:1\r\nB:  two words \r\nC: with: colons\r\n\r\n",
    "NATS/1.0\r\nShop: Käse 🦦\r\n\r\n".encode(),
    b"NATS/1.0 404\r\n\r\n",
    b"NATS/1.0 404 Message Not Found\r\n\r\n",
    b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 12\r\n\r\n",
    b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1016\r\nNats-Last-Stream: 1024\r\n\r\n",
    b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
]


@pytest.mark.parametrize("raw", SEEN)
async def test_headers_are_read_as_the_library_reads_them(raw: bytes) -> None:
    assert parse_headers(raw) == await Client()._process_headers(raw)


def test_a_message_without_headers_has_none() -> None:
    assert Msg("a", "", b"", None).headers is None


def test_what_is_no_header_line_is_passed_over() -> None:
    assert parse_headers(b"NATS/1.0\r\nnot a header\r\n\xff: \xfe\r\nA: 1\r\n\r\n")["A"] == "1"
