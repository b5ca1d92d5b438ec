"""When the pieces of a streamed text came, so that a replay can play it at its speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

JOIN_MS: Final = 20
MAX_CHUNKS: Final = 1000
Chunk = tuple[int, int]


class Pace:
    """Time and length of the pieces of one text; what came close together counts as one.

    However long the text, there are no more than `MAX_CHUNKS`: then what is close is twice as much.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.length = 0
        self._clock = clock
        self._began = clock()
        self._join_ms = JOIN_MS
        self._chunks: list[Chunk] = []

    def add(self, length: int) -> None:
        """A piece has come."""
        self.length += length
        self._chunks.append((int((self._clock() - self._began) * 1000), length))
        if len(self._chunks) > 2 * MAX_CHUNKS:
            self._thin()

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Milliseconds since the first piece, and length in characters."""
        self._thin()
        return tuple(self._chunks)

    def _thin(self) -> None:
        self._chunks = _joined(self._chunks, self._join_ms)
        while len(self._chunks) > MAX_CHUNKS:
            self._join_ms *= 2
            self._chunks = _joined(self._chunks, self._join_ms)


def _joined(chunks: list[Chunk], within_ms: int) -> list[Chunk]:
    joined: list[Chunk] = []
    for at, length in chunks:
        if joined and at - joined[-1][0] < within_ms:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        else:
            joined.append((at, length))
    return joined
