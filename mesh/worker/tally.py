"""What one worker has done so far."""

from __future__ import annotations

import time
from typing import Final

from schemas.service import EndpointStats, QueueState

_NS: Final = 1_000_000_000


class Tally:
    """Counts deliveries; times are seconds since 1970, by a clock that may be set meanwhile."""

    def __init__(self) -> None:
        self.started_at = time.time()
        self.handled = 0
        self.failed = 0
        self.busy_s = 0.0
        self.last_error = ""
        self._moved_at = time.monotonic()

    @property
    def idle_s(self) -> float:
        """How long no delivery has been taken or let go."""
        return time.monotonic() - self._moved_at

    @property
    def last_at(self) -> float:
        """When one was last taken or let go."""
        return time.time() - self.idle_s

    def take(self) -> None:
        """A delivery has come."""
        self._moved_at = time.monotonic()

    def let_go(self, seconds: float) -> None:
        """A delivery was handled in that time, well or not."""
        self._moved_at = time.monotonic()
        self.handled += 1
        self.busy_s += seconds

    def fail(self, error: Exception) -> None:
        """A handler raised what it should not."""
        self.failed += 1
        self.last_error = f"{type(error).__name__}: {error}"

    def stats(self, name: str, subject: str, group: str, state: QueueState) -> EndpointStats:
        """The same in the words of NATS micro."""
        busy_ns = int(self.busy_s * _NS)
        return EndpointStats(
            name=name, subject=subject, queue_group=group, num_requests=self.handled, num_errors=self.failed,
            last_error=self.last_error, processing_time=busy_ns,
            average_processing_time=busy_ns // self.handled if self.handled else 0, data=state,
        )  # fmt: skip
