"""Makes sure that `tls://` means it.

The client library upgrades a connection only if the server asks for that, and otherwise sends name and password in the
clear; so a server that offers no TLS is refused before anything is said to it.
"""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from mesh.errors import BusUnavailable

DEFAULT_PORT = 4222


class _Info(Struct):
    tls_required: bool = False
    tls_available: bool = False


async def tls_for(servers: list[str]) -> ssl.SSLContext | None:
    """The context to connect with, or None where no URL asks for TLS.

    Raises: BusUnavailable if a server that is to be spoken to by TLS offers none, or cannot be reached.
    """
    secured = [server for server in servers if server.startswith("tls://")]
    if not secured:
        return None
    for server in secured:
        await _require_offer(server)
    return ssl.create_default_context()


async def _require_offer(server: str) -> None:
    url = urlsplit(server)
    place = f"{url.hostname}:{url.port or DEFAULT_PORT}"
    try:
        reader, writer = await asyncio.open_connection(url.hostname, url.port or DEFAULT_PORT)
    except OSError as error:
        raise BusUnavailable(f"no broker at tls://{place}: {error}") from error
    try:
        line = await reader.readline()
        info = msgspec.json.decode(line.removeprefix(b"INFO "), type=_Info)
    except (OSError, ValueError) as error:
        raise BusUnavailable(f"{place} is no NATS server", hint="one that begins with TLS is not supported") from error
    finally:
        writer.close()
    if not (info.tls_required or info.tls_available):
        raise BusUnavailable(f"the server at {place} offers no TLS", hint="use nats://, or configure tls on the server")
