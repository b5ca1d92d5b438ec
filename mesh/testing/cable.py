"""A TCP connection that can be cut: what connects to one port is passed on to another, or not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self

HOST: Final = "127.0.0.1"
PIECE: Final = 65_536
_NAME: Final = re.compile(rb'^CONNECT .*?"name": ?"([^"]*)"')
Which = Callable[[str], bool]
"""Chooses connections by the name that their client gives itself; it is empty until the client has spoken."""


def _every(name: str) -> bool:
    return True


def _none(name: str) -> bool:
    return False


class _Wire:
    def __init__(self) -> None:
        self.name = ""

    def hear(self, piece: bytes) -> None:
        """What the client sends first names it."""
        named = None if self.name else _NAME.match(piece)
        if named:
            self.name = named[1].decode()


class Cable:
    """Passes connections to `port` on to `target` while it is whole.

    A cut does not close them: bytes are held back, as when a switch dies, and go on when it is mended. New connections
    are taken and hear nothing. Single connections are cut and dropped by name.
    """

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._is_cut: Which = _none
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._passing: dict[asyncio.Task[None], _Wire] = {}

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

    def cut(self, which: Which = _every) -> None:
        """Nothing of these passes any more."""
        self._is_cut = which

    def mend(self) -> None:
        """Everything passes again, also what was held back."""
        self._is_cut = _none
        self._changed.set()
        self._changed = asyncio.Event()

    def drop(self, which: Which = _every) -> None:
        """Closes these connections; both sides notice."""
        for task, wire in tuple(self._passing.items()):
            if which(wire.name):
                task.cancel()

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = _Wire()
        task = asyncio.create_task(self._pass_on(wire, reader, writer))
        self._passing[task] = wire
        task.add_done_callback(self._passing.pop)

    async def _passes(self, wire: _Wire) -> None:
        while self._is_cut(wire.name):
            await self._changed.wait()

    async def _pass_on(self, wire: _Wire, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            await self._passes(wire)
            there, their_writer = await asyncio.open_connection(HOST, self._target)
            writers.append(their_writer)
            async with asyncio.TaskGroup() as group:
                both = [
                    group.create_task(self._pump(wire, reader, their_writer, wire.hear)),
                    group.create_task(self._pump(wire, there, writer)),
                ]
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                for one in both:
                    one.cancel()
        except OSError:
            return  # nobody listens there now
        finally:
            for open_writer in writers:
                open_writer.close()

    async def _pump(
        self,
        wire: _Wire,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        hear: Callable[[bytes], None] = lambda piece: None,
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(PIECE):
                hear(piece)
                await self._passes(wire)
                writer.write(piece)
                await writer.drain()
