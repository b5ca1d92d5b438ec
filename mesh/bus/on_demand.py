"""A connection that costs nothing until it is used."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mesh.bus.connection import Link
from mesh.errors import BusUnavailable


class OnDemand:
    """A connection that is opened when first needed."""

    def __init__(self, link: Link, on_back: Callable[[], None]) -> None:
        self.link = link
        self.opened = False
        self.on_open: Callable[[], Awaitable[None]] | None = None
        self._opening = asyncio.Lock()
        link.on_back(on_back)

    async def get(self) -> Link:
        """The link, opened; raises as `Link.open` does."""
        if not self.opened:
            try:
                # Or many who come at once would each wait for the dials of all before them.
                async with asyncio.timeout(self.link.timeout_s):
                    await self._opening.acquire()
            except TimeoutError as error:
                raise BusUnavailable("the connection did not come in time") from error
            try:
                if not self.opened:
                    await self.link.open()
                    if self.on_open:
                        await self.on_open()
                    self.opened = True
            finally:
                self._opening.release()
        return self.link
