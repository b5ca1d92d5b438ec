"""Merges a task's log with its deltas into what a tail tells its reader.

Pure. Each log event comes once and in order; text comes as early as a delta brings it, and is never told twice. Text of
an attempt that died is announced as discarded. So the text told, less what was discarded, equals the log, always.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from msgspec import Raw, Struct

from mesh.log import cursor as cursors
from mesh.log.cursor import Part, Position
from mesh.log.head import Entry
from mesh.log.texts import texts_in
from schemas import step, task
from schemas.delta import Delta
from schemas.instant import rfc3339
from schemas.step import StepCompleted, StepFailed, TextAdded

TEXT: Final = "text"
DISCARDED: Final = "text.discarded"


class TaskEvent(Struct, frozen=True, gc=False):
    """One event of a tail.

    `type` is that of a log event, or `text` or `text.discarded`, which exist only in a tail. `data` is the struct of
    that type (a dict of an unknown one), `at` RFC 3339, `cursor` resumes right after this event.
    """

    cursor: str
    type: str
    data: Any
    at: str


class Text(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The next piece of text of a (step, part)."""

    text: str
    step: str = ""
    part: int = 0
    kind: str = "text"


class TextDiscarded(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last `length` characters told of this (step, part) do not count: their attempt died."""

    length: int
    step: str = ""
    part: int = 0


class Merge:
    """Where one reader of one task stands."""

    def __init__(self, cursor: str | None = None) -> None:
        self._at = cursors.decode(cursor) if cursor else Position()
        self._resuming = cursor is not None
        self._held: list[Delta] = []
        self._over: set[str] = set()
        self.ended = False

    @property
    def seq(self) -> int:
        """Every event up to this sequence was told; a resumed commit is looked at again."""
        return self._at.seq - 1 if self._resuming and self._at.seq else self._at.seq

    @property
    def missing(self) -> bool:
        """Whether a delta waits for text before it."""
        return bool(self._held)

    def commit(self, entry: Entry) -> list[TaskEvent]:
        """What a commit tells; one that was seen tells nothing."""
        if entry.seq < self._at.seq or (entry.seq == self._at.seq and not self._resuming):
            return []
        here, events, at = self._at, entry.commit.events, entry.commit.at
        done = here.events if entry.seq == here.seq else 0
        self._resuming = False
        self.ended = any(event.type in task.TERMINAL for event in events[:done]) if done else False
        out: list[TaskEvent] = []
        for index, event in enumerate(events[done:] if done else events):
            here.seq, here.events = entry.seq, done + index
            on_text = self._ON_TEXT.get(event.type)
            if on_text:
                on_text(self, event.data, at, out)
            here.events += 1
            if event.type == task.STARTED:
                here.claims += 1
            out.append(TaskEvent(cursors.encode(here), event.type, event.data, at))
        if self._held:
            held, self._held = self._held, []
            for delta in held:
                out.extend(self.delta(delta))
        return out

    def delta(self, delta: Delta) -> list[TaskEvent]:
        """What a delta tells; one that is ahead of the text before it waits."""
        if self.ended or delta.step in self._over or (not delta.step and delta.attempt < self._at.claims):
            return []
        part = self._part(delta.step, delta.part)
        out: list[TaskEvent] = []
        at = rfc3339(delta.at)
        if delta.attempt < part.attempt:
            return out
        if delta.offset > (part.told if delta.attempt == part.attempt else part.kept):
            self._held.append(delta)
            return out
        if delta.attempt > part.attempt:
            self._discard(delta.step, delta.part, part, at, out)
            part.attempt = delta.attempt
        rest = delta.text[max(0, part.told - delta.offset) :]
        self._tell(part, Text(text=rest, step=delta.step, part=delta.part, kind=delta.kind), at, out)
        return out

    def forget_held(self) -> None:
        """Gives up on deltas whose text before is gone: the log brings it."""
        self._held.clear()

    def _add_text(self, data: TextAdded | Raw, at: str, out: list[TaskEvent]) -> None:
        if isinstance(data, Raw):
            return  # a later version's form
        part = self._part(data.step, data.part)
        if data.attempt != part.attempt:
            self._discard(data.step, data.part, part, at, out)
            part.attempt = data.attempt
        end = data.offset + len(data.text)
        rest = data.text[max(0, part.told - data.offset) :]
        self._tell(part, Text(text=rest, step=data.step, part=data.part), at, out)
        part.kept = max(part.kept, end)

    def _complete(self, data: StepCompleted | Raw, at: str, out: list[TaskEvent]) -> None:
        for added in texts_in(data):
            self._add_text(added, at, out)
        self._forget(data, at, out)

    def _forget(self, data: StepCompleted | StepFailed | Raw, at: str, out: list[TaskEvent]) -> None:
        """A step has ended: what counts of its text is in the log, but for the other parts of its result."""
        if isinstance(data, Raw):
            return
        self._over.add(data.step)
        for key in [key for key in self._at.parts if key[0] == data.step]:
            if isinstance(data, StepFailed) or self._at.parts[key].attempt < data.attempt:
                self._discard(*key, self._at.parts[key], at, out)
            del self._at.parts[key]

    def _tell(self, part: Part, text: Text, at: str, out: list[TaskEvent]) -> None:
        if text.text:
            part.told += len(text.text)
            out.append(self._event(TEXT, text, at))

    def _end(self, data: Struct, at: str, out: list[TaskEvent]) -> None:
        self._discard_all(data, at, out)
        self.ended = True

    def _discard_all(self, data: Struct, at: str, out: list[TaskEvent]) -> None:
        for (step_key, number), part in self._at.parts.items():
            self._discard(step_key, number, part, at, out)

    def _discard(self, step_key: str, number: int, part: Part, at: str, out: list[TaskEvent]) -> None:
        length = part.told - part.kept
        if length > 0:
            part.told = part.kept
            out.append(self._event(DISCARDED, TextDiscarded(length=length, step=step_key, part=number), at))

    def _part(self, step_key: str, number: int) -> Part:
        return self._at.parts.setdefault((step_key, number), Part())

    def _event(self, kind: str, data: Any, at: str) -> TaskEvent:
        return TaskEvent(cursors.encode(self._at), kind, data, at)

    # What an event of the log does to text before it is told itself; most events do nothing.
    _ON_TEXT: ClassVar[dict[str, Callable[[Merge, Any, str, list[TaskEvent]], None]]] = {
        step.TEXT_ADDED: _add_text,
        step.COMPLETED: _complete,
        step.FAILED: _forget,
        task.STARTED: _discard_all,
        **dict.fromkeys(task.TERMINAL, _end),
    }
