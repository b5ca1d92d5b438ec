"""What the owner of a task may write: rules R6 to R8, X4 and P3."""

from __future__ import annotations

from msgspec import Struct

from mesh.log.append import Appended, append, end_task, tell_end
from mesh.log.claim import Claimed
from mesh.log.head import Entry, View, Writer, view_of
from mesh.log.ops import Ack, Drop, Flow, Nak, Read, Verdict
from mesh.subjects import Subjects
from schemas.envelope import Event, event
from schemas.task import TaskCanceled, TaskReleased


class Fenced(Exception):
    """The task is somebody else's now, or has ended: stop, and send no verb."""


class Owner:
    """The one writer that carries a claimed task on.

    `view` moves with every append and every look at the log. Once `out` is set, nothing is written any more.
    """

    def __init__(self, names: Subjects, writer: Writer, claimed: Claimed) -> None:
        self.names = names
        self.writer = writer
        self.claim = claimed.claim
        self.view = claimed.view
        self.out = False

    @property
    def cancel_requested(self) -> bool:
        return self.view.head.cancel

    def see(self, view: View) -> None:
        """Takes note of a newer view of the log, from a tail or a tick."""
        if view.seq > self.view.seq:
            self.view = view
        self._check(self.view)

    def look(self) -> Flow[None]:
        """Takes note of the newest commit as the leader has it; raises Fenced."""
        entry: Entry | None = yield Read(self.view.task)
        if entry is None:
            raise Fenced
        self.see(view_of(entry))

    def commit(self, events: tuple[Event, ...]) -> Flow[Appended]:
        """Appends these events whatever outsiders wrote meanwhile; raises Fenced."""
        while True:
            result = yield from self._append(events)
            if not result.stored or self.view.n != result.commit.n:
                self._check(self.view)
            if result.stored:
                return result

    def suspend(self, events: tuple[Event, ...]) -> Flow[bool]:
        """Closes the wake unless a signal came first: then the owner goes on."""
        result = yield from self._append(events)
        if not result.stored:
            self._check(self.view)
        return result.stored

    def end(self, terminal: Struct, before: tuple[Event, ...] = ()) -> Flow[Verdict]:
        """Ends the task: as asked, or as canceled if a cancel request came first."""
        while not self.out:
            if self.cancel_requested and not isinstance(terminal, TaskCanceled):
                terminal = TaskCanceled(reason="canceled on request")
            result = yield from end_task(self.names, self.view, self.writer, terminal, before)
            self.view = result.view
            if result.stored:
                return Ack()
            self.out = not self._holds(self.view)
        return (yield from self._leave())

    def release(self, before: tuple[Event, ...] = ()) -> Flow[Verdict]:
        """Leaves in order without burning an attempt (P3)."""
        try:
            if before:
                yield from self.commit(before)
            yield from self.commit((event(TaskReleased()),))
        except Fenced:
            return Drop()
        return Nak()

    def _append(self, events: tuple[Event, ...]) -> Flow[Appended]:
        if self.out:
            # The view is the new owner's by now, and what is appended after it would be stored.
            raise Fenced
        result = yield from append(self.view, self.writer, events)
        # A tail may be ahead of this answer. A log that is not there is another matter: who went on from the old view
        # would not know its own commit when the log is back.
        if result.view.seq >= self.view.seq or not result.view.exists:
            self.view = result.view
        return result

    def _leave(self) -> Flow[Verdict]:
        if self.view.head.phase == "ended":
            yield from tell_end(self.names, self.view)
        return Drop()

    def _holds(self, view: View) -> bool:
        return view.head.phase == "running" and view.head.claim == self.claim

    def _check(self, view: View) -> None:
        if not self._holds(view):
            self.out = True
            raise Fenced


__all__ = ["Fenced", "Owner"]
