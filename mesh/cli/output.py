"""Writing to stdout without holding up the event loop when nobody reads."""

from __future__ import annotations

import os
import select
import sys
from functools import partial
from typing import TextIO

from mesh.agents.guard import Threads

PIPE_BUF = 512  # what POSIX promises that a pipe takes when it is writable


class Outlet:
    """Bytes to a file descriptor, in order.

    The services of `mesh run` live in the same loop: a pager that stops reading must not stop their heartbeats.
    """

    def __init__(self, stream: TextIO) -> None:
        self._fd = stream.fileno()
        self._threads = Threads()

    @property
    def piped(self) -> bool:
        """Whether a program or a file gets it, and no person."""
        return not os.isatty(self._fd)

    async def write(self, text: str) -> None:
        """Writes all of it; returns when the system has taken it.

        Raises: BrokenPipeError when the reader has gone.
        """
        await self.write_bytes(text.encode(errors="surrogateescape"))

    async def write_bytes(self, data: bytes) -> None:
        """The same of bytes."""
        rest = memoryview(data)
        while rest:
            piece = rest[:PIPE_BUF]
            if self._takes_some():
                rest = rest[os.write(self._fd, piece) :]
            else:
                rest = rest[await self._threads.call(partial(os.write, self._fd, piece)) :]

    def _takes_some(self) -> bool:
        if sys.platform == "win32":
            return False
        return bool(select.select((), (self._fd,), (), 0)[1])
