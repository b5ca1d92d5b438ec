"""A handler that does not stop when it is cancelled."""

from __future__ import annotations

import asyncio

from mesh import Context, Mesh


class Stubborn:
    """The agent `stubborn`: it has begun, and ends when the test says that it is over."""

    def __init__(self, app: Mesh) -> None:
        self.begun = asyncio.Event()
        self.over = asyncio.Event()
        app.agent(name="stubborn")(self._work)

    async def _work(self, ctx: Context) -> None:
        self.begun.set()
        while not self.over.is_set():
            try:
                await self.over.wait()
            except asyncio.CancelledError:
                continue
