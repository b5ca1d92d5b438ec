"""The embedded broker as long as somebody needs it: started again when it dies by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, NoReturn

from mesh.errors import ServerError
from mesh.server import EmbeddedServer

RETRY_S: Final = 2.0


@asynccontextmanager
async def embedded(server: EmbeddedServer, say: Callable[[str], None]) -> AsyncIterator[str]:
    """The URL of a server that runs while the block does, also when somebody kills it.

    Raises: StoreLocked, PortTaken, ServerError when it does not start.
    """
    await server.start()
    keeping = asyncio.create_task(_keep(server, say))
    try:
        yield server.url
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        await server.stop()


async def _keep(server: EmbeddedServer, say: Callable[[str], None]) -> NoReturn:
    """Restarts it on its store and port for ever; clients redial, and no task notices more than a pause."""
    while True:
        code = await server.wait_died()
        say(
            f"the embedded nats-server ended by itself ({_reason(code)}); starting it again, its log: {server.log_path}"
        )
        while server.pid is None:
            try:
                await server.start()
            except ServerError as error:
                say(f"it does not start: {error}; trying again")
                await asyncio.sleep(RETRY_S)
        say(f"the embedded nats-server runs again at {server.url}")


def _reason(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
