"""A TCP connection that can be cut: what connects to one port is passed on to another, or not."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Self

HOST: Final = "127.0.0.1"
PIECE: Final = 65_536


class Cable:
    """Passes connections to `port` on to `target` while it is whole.

    A cut does not close them: bytes are held back, as when a switch dies, and go on when it is mended. New connections
    are taken and hear nothing.
    """

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._whole = asyncio.Event()
        self._whole.set()
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, HOST, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        passing = tuple(self._passing)
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)

    def cut(self) -> None:
        """Nothing passes any more."""
        self._whole.clear()

    def mend(self) -> None:
        """Everything passes again, also what was held back."""
        self._whole.set()

    def drop(self) -> None:
        """Closes what is connected; both sides notice."""
        for task in tuple(self._passing):
            task.cancel()

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass_on(reader, writer))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            await self._whole.wait()
            there, their_writer = await asyncio.open_connection(HOST, self._target)
            writers.append(their_writer)
            async with asyncio.TaskGroup() as group:
                both = [
                    group.create_task(self._pump(reader, their_writer)),
                    group.create_task(self._pump(there, writer)),
                ]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                for one in both:
                    one.cancel()
        except OSError:
            return  # nobody listens there now
        finally:
            for open_writer in writers:
                open_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(PIECE):
                await self._whole.wait()
                writer.write(piece)
                await writer.drain()
