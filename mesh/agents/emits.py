"""What a handler emits, until the next commit takes it along."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from schemas.envelope import Event, event
from schemas.step import EventAdded, StepProgress, TextAdded


class Emits:
    """Text, events and progress that are not in the log yet, in their order.

    `offset` is where the next character of text stands. Text of an uninterrupted stretch becomes one `text.added`
    with the time and length of each piece. `size` is roughly what all of it takes in the log, in bytes.
    """

    def __init__(self, attempt: int, offset: int, clock: Callable[[], float]) -> None:
        self.attempt = attempt
        self.offset = offset
        self.size = 0
        self._clock = clock
        self._events: list[Event] = []
        self._pieces: list[str] = []
        self._chunks: list[tuple[int, int]] = []
        self._began = 0.0
        self._progress: StepProgress | None = None

    def __bool__(self) -> bool:
        return bool(self._events or self._pieces or self._progress)

    def add_text(self, text: str) -> None:
        now = self._clock()
        if not self._pieces:
            self._began = now
        self._pieces.append(text)
        self._chunks.append((int((now - self._began) * 1000), len(text)))
        self.offset += len(text)
        self.size += len(text)

    def add_event(self, data: EventAdded) -> None:
        self._close_text()
        self._events.append(event(data))
        self.size += len(msgspec.json.encode(data))

    def set_progress(self, data: StepProgress) -> None:
        """Only the newest progress is kept: it is a state, not a history."""
        self._progress = data

    def take(self) -> tuple[Event, ...]:
        """Everything so far, for one commit."""
        self._close_text()
        if self._progress is not None:
            self._events.append(event(self._progress))
            self._progress = None
        events, self._events, self.size = tuple(self._events), [], 0
        return events

    def _close_text(self) -> None:
        if not self._pieces:
            return
        text = "".join(self._pieces)
        added = TextAdded(text=text, offset=self.offset - len(text), attempt=self.attempt, chunks=tuple(self._chunks))
        self._events.append(event(added))
        self._pieces, self._chunks = [], []
