"""The fenced append and the end of a task: rules L1 to L6 and N1."""

from __future__ import annotations

from typing import Final

from msgspec import Raw, Struct
from msgspec.structs import replace

from mesh.log.head import Entry, View, Writer, next_commit, view_of
from mesh.log.ops import UNKNOWN, Append, Flow, Message, Publish, ReadAfter, ReadFirst, Stored
from mesh.subjects import Subjects, root_of
from schemas.command import Ended, Run
from schemas.envelope import VERSION, Commit, Event, encode, event
from schemas.task import TaskAccepted

# What a run command may carry of its log: it is stored twice then, once in the queue.
MAX_OPENING_BYTES: Final = 16 * 1024


class Appended(Struct, frozen=True):
    """What came of an append: whether it stands, and the newest view.

    `commit` is what was written or tried; `news` holds what others wrote, as far as it was read.
    """

    stored: bool
    view: View
    commit: Commit
    news: tuple[Entry, ...] = ()


def append(view: View, writer: Writer, events: tuple[Event, ...], trace: str = "") -> Flow[Appended]:
    """One append to a definite answer.

    While nothing is known the same bytes are sent again (L4). After a conflict everything that came is read; the
    commit may be among it (L3). If it is not, the caller decides again on the new view.
    """
    commit = next_commit(view, writer, events, trace)
    ask = Append(commit, view.seq)
    answer = yield ask
    while answer is UNKNOWN:
        answer = yield ask
    if isinstance(answer, Stored):
        first = view.first or answer.seq
        return Appended(True, View(view.task, answer.seq, commit.n, first, commit.head, commit.v), commit)
    entries: tuple[Entry, ...] = yield ReadAfter(view.task, view.seq, answer.last)
    mine = any(e.commit.nonce == commit.nonce and e.commit.n == commit.n for e in entries)
    news = tuple([e for e in entries if e.commit.nonce != commit.nonce])
    newest = view_of(entries[-1]) if entries else View(view.task)
    return Appended(mine, newest, commit, news)


def end_task(
    names: Subjects, view: View, writer: Writer, terminal: Struct, before: tuple[Event, ...] = ()
) -> Flow[Appended]:
    """Appends the terminal event, and tells who waits; the only place that does."""
    result = yield from append(view, writer, (*before, event(terminal)))
    if result.stored:
        yield from tell_end(names, result.view)
    return result


def tell_end(names: Subjects, view: View) -> Flow[None]:
    """N1: whoever ends a task, or finds it ended, says so if somebody waits."""
    if view.head.tell:
        yield Publish((Message(subject=names.ended(view.task), body=Ended(v=VERSION, task=view.task)),))


def wake_message(names: Subjects, view: View) -> Flow[Message]:
    """The run command of a runnable task; its pool and its agent stand in commit 0."""
    first: Entry | None = yield ReadFirst(view.task, view.first)
    if first is None or not isinstance(first.commit.events[0].data, TaskAccepted):
        raise LookupError(f"the log of task '{view.task}' does not begin with its admission")
    return run_message(names, first.commit, view)


def run_message(names: Subjects, first: Commit, view: View) -> Message:
    """The run command that this view asks for; `first` is commit 0, an admission."""
    opening = first.events[0].data
    head = view.head
    run = Run(
        v=view.v, task=view.task, root=root_of(view.task), first=view.first, last=view.seq, n=view.n, head=head,
        wake=head.wake, not_apps=head.not_apps, agent=opening.agent,
    )  # fmt: skip
    if view.n == 0 and len(body := encode(first)) <= MAX_OPENING_BYTES:
        run = replace(run, opening=Raw(body))
    return Message(subject=names.run(opening.pool), body=run)
