"""Time that a test moves by hand."""

from __future__ import annotations

from typing import Final

START_S: Final = 1_750_000_000.0


class FakeClock:
    """A `mesh.clock.Clock` that stands still until it is advanced."""

    def __init__(self, now: float = START_S) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Moves on; time never goes back."""
        if seconds < 0:
            raise ValueError("a clock does not go back")
        self._now += seconds
