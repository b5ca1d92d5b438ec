"""Redrives one dead letter as a process that is killed before or after it publishes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from mesh.bus import Bus
from mesh.redrive import DeadLetters
from mesh.subjects import Subjects


class Killing:
    """An observer that ends this process at its first publish."""

    def __init__(self, side: str) -> None:
        self._side = side

    def before(self, kind: str, subject: str) -> None:
        self._at("before", kind)

    def after(self, kind: str, subject: str) -> None:
        self._at("after", kind)

    def _at(self, side: str, kind: str) -> None:
        if (side, kind) == (self._side, "publish"):
            os.kill(os.getpid(), signal.SIGKILL)


async def redrive(url: str, prefix: str, number: int, side: str) -> None:
    bus = await Bus.connect(url, name="redriving", observer=Killing(side))
    letters = DeadLetters(bus, Subjects(prefix))
    await letters.redrive(await letters.get(number))


if __name__ == "__main__":
    asyncio.run(redrive(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
