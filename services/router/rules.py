"""What the router decides, as flows: submit (A1 to A4), cancel and steer (S, X), timers (D, S4, P4).

Pure generators over `mesh.log`; the tests explore these very functions.
"""

from __future__ import annotations

from typing import Final, Protocol

from msgspec import Struct

from mesh.log.append import append, end_task, run_message, tell_end, wake_message
from mesh.log.exhausted import exhausted, exhausted_letter
from mesh.log.head import Entry, View, Writer, view_of
from mesh.log.ops import (
    Ack,
    Flow,
    Holds,
    Message,
    Nak,
    Publish,
    Read,
    ReadAfter,
    ReadFirst,
    Tell,
    Verdict,
)
from mesh.subjects import Subjects
from schemas import command
from schemas import error as codes
from schemas.command import Call, DeadLetter, Fired
from schemas.envelope import VERSION, Commit, Event, Head, event
from schemas.error import Error
from schemas.instant import rfc3339, unix
from schemas.signal import Answer, Broadcast, TaskSignal
from schemas.step import StepCompleted, StepFailed, StepStarted
from schemas.task import (
    CUT_OFF,
    CancelRequested,
    MessageReceived,
    TaskAccepted,
    TaskCanceled,
    TaskFailed,
    TaskRejected,
    TaskReleased,
    TaskResumed,
)

MAX_SIGNAL_WAITS: Final = 60
MAX_REASON: Final = 1000
SIGNAL_WAIT_S: Final = 1.0
FIRST_RESUME_S: Final = 5.0
LAST_RESUME_S: Final = 300.0
MAX_CUT_OFFS: Final = 10


class Registry(Protocol):
    """What the router knows about apps."""

    def pool_of(self, agent: str) -> str | None: ...

    def versions_of(self, agent: str) -> set[str]:
        """Those of living workers, and the newest that has registered."""
        ...


class Router(Struct, frozen=True, kw_only=True):
    """What every decision of a router needs: names, its stamp, the registry, the time."""

    names: Subjects
    writer: Writer
    registry: Registry
    cancel_grace_s: float = 10.0
    max_cut_offs: int = MAX_CUT_OFFS


class Lost(Struct, frozen=True):
    """A delivery that a worker held, as its presence says, when its connection was closed."""

    worker: str
    seq: int
    delivery: int


class Order(Struct, frozen=True, kw_only=True):
    """A submit as the shell understood it: commit 0 to be, and the message it came by.

    `letter` is what goes to the dead letters if the id is taken by another body.
    """

    task: str
    opening: TaskAccepted | TaskRejected
    letter: DeadLetter
    sequence: int
    trace: str = ""


def submit(router: Router, order: Order) -> Flow[Verdict]:
    """A1, A3, A4: commit 0, or what it finds there, then the follow-ups."""
    view, first = yield from _create(router, order)
    opening = first.events[0].data
    if not isinstance(opening, TaskCanceled) and opening.digest != order.opening.digest:
        yield Publish((_duplicate(router.names, order),))
        return Ack()
    if view.head.phase == "ended":
        yield from tell_end(router.names, view)
    elif view.never_started:
        yield from _first_run(router, view, first)
    return Ack()


def _first_run(router: Router, view: View, first: Commit) -> Flow[None]:
    """D1 and A3: the timer first, so that a run command never exists without it."""
    opening = first.events[0].data
    if opening.deadline_s is not None:
        yield Publish((_deadline(router.names, view.task, opening),))
    yield Publish((run_message(router.names, first, view),))


def _deadline(names: Subjects, task: str, opening: TaskAccepted) -> Message:
    assert opening.deadline_s is not None
    return timer(names, task, command.DEADLINE, at=rfc3339(unix(opening.at) + opening.deadline_s))


def _create(router: Router, order: Order) -> Flow[tuple[View, Commit]]:
    """Commit 0 of the task: mine, or the one that was there first."""
    empty = View(order.task)
    while True:
        if isinstance(order.opening, TaskRejected):
            result = yield from end_task(router.names, empty, router.writer, order.opening)
        else:
            result = yield from append(empty, router.writer, (event(order.opening),), order.trace)
        if result.stored:
            return result.view, result.commit
        if result.news:
            return result.view, result.news[0].commit


def _duplicate(names: Subjects, order: Order) -> Message:
    return Message(
        subject=names.dead(codes.DUPLICATE_ID, order.task),
        body=order.letter,
        id=f"dead:{order.task}:{order.sequence}",
    )


def duplicate_error(task: str) -> Error:
    """Why the second body under one id goes to the dead letters."""
    return Error(
        code=codes.DUPLICATE_ID,
        message=f"a task '{task}' exists already and was submitted with another body",
        hint="an id is unique for as long as its log is kept: give this submit another task_id, or none",
    )


def timer(
    names: Subjects, task: str, kind: str, *, at: str = "", after_s: float = 0.0, delay_s: float = 0.0
) -> Message:
    """A one-shot timer of a task; a repeat of the same kind replaces it (D1)."""
    return Message(
        subject=names.later(kind, task),
        body=Fired(v=VERSION, task=task, kind=kind, delay_s=delay_s),
        target=names.fired(task),
        at=at,
        after_s=after_s,
    )


def cancel(router: Router, task: str, request: TaskSignal) -> Flow[Answer]:
    """X1 to X3: stop now, then the log, then the follow-ups."""
    reason = request.reason[:MAX_REASON]
    yield Tell(router.names.cancel(task), Broadcast(task=task, reason=reason))
    asked = event(CancelRequested(id=request.id, reason=reason))
    over = TaskCanceled(reason=reason)
    while True:
        newest: Entry | None = yield Read(task)
        if newest is None:
            result = yield from end_task(router.names, View(task), router.writer, over)
            outcome = "tombstone"
        else:
            view = view_of(newest)
            if view.head.phase == "ended":
                yield from tell_end(router.names, view)
                return Answer(task=task, outcome="ended", phase="ended")
            if view.head.cancel:
                # This very request, delivered again; another one must not put off the grace of the first.
                if view.head.cancel_id == request.id:
                    yield from _follow_cancel(router, view, woke=view.head.phase == "runnable")
                return Answer(task=task, outcome="known", phase=view.head.phase)
            if view.never_started:
                result = yield from end_task(router.names, view, router.writer, over, before=(asked,))
                outcome = "ended_now"
            else:
                result = yield from append(view, router.writer, (asked,))
                outcome = "appended"
                if result.stored:
                    yield from _follow_cancel(router, result.view, woke=view.head.phase == "suspended")
        if result.stored:
            return Answer(task=task, outcome=outcome, phase=result.commit.head.phase)


def _follow_cancel(router: Router, view: View, *, woke: bool) -> Flow[None]:
    """X3: the grace timer; and the run command if this cancel was the wake, or may have been (S2, S3)."""
    messages = [timer(router.names, view.task, command.CANCEL_GRACE, after_s=router.cancel_grace_s)]
    if woke:
        messages.append((yield from wake_message(router.names, view)))
    yield Publish(tuple(messages))


def steer(router: Router, task: str, request: TaskSignal, waits: int) -> Flow[Answer | Nak]:
    """S1 to S3 for a message to a task; `waits` counts deliveries so far."""
    received = event(MessageReceived(id=request.id, body=request.body))
    while True:
        entries: tuple[Entry, ...] = yield ReadAfter(task, 0, 0)
        if not entries:
            if waits < MAX_SIGNAL_WAITS:
                return Nak(SIGNAL_WAIT_S)
            return Answer(task=task, outcome="refused", error=unknown_task(task))
        view = view_of(entries[-1])
        if view.head.phase == "ended":
            yield from tell_end(router.names, view)
            return Answer(task=task, outcome="ended", phase="ended")
        if any(_is_message(e, request.id) for entry in entries for e in entry.commit.events):
            if view.head.phase == "runnable" and not view.never_started:
                yield Publish(((yield from wake_message(router.names, view)),))
            return Answer(task=task, outcome="known", phase=view.head.phase)
        result = yield from append(view, router.writer, (received,))
        if result.stored:
            if view.head.phase == "suspended":
                yield Publish(((yield from wake_message(router.names, result.view)),))
            return Answer(task=task, outcome="appended", phase=result.commit.head.phase)


def _is_message(event: Event, id: str) -> bool:
    return isinstance(event.data, MessageReceived) and event.data.id == id


def unknown_task(task: str) -> Error:
    """A signal to a task nobody has submitted."""
    return Error(
        code=codes.INVALID_INPUT,
        message=f"no task '{task}' is known",
        hint="check the id; a task is known once its submit has been admitted",
    )


def fired(router: Router, due: Fired) -> Flow[Verdict]:
    """D2, X3, S4 and P4: a timer fired, or a worker asks the router to look."""
    while True:
        newest: Entry | None = yield Read(due.task)
        if newest is None:
            return Ack()
        view = view_of(newest)
        if view.head.phase == "ended":
            yield from _say_end(router, newest, due)
            return Ack()
        if due.kind == command.RESUME:
            if (yield from _resume(router, view, due)):
                return Ack()
        elif terminal := _end_of(view, (yield from _opening(view)), due):
            yield from end_task(router.names, view, router.writer, terminal)
        else:
            return Ack()


def _say_end(router: Router, newest: Entry, due: Fired) -> Flow[None]:
    """N1, and the dead letter where this command is what ended the task."""
    letter = exhausted_letter(router.names, newest) if due.kind == command.UNDELIVERABLE else None
    if letter:
        yield Publish((letter,))
    yield from tell_end(router.names, view_of(newest))


def _opening(view: View) -> Flow[TaskAccepted]:
    first: Entry | None = yield ReadFirst(view.task, view.first)
    if first is None or not isinstance(first.commit.events[0].data, TaskAccepted):
        raise LookupError(f"the log of task '{view.task}' does not begin with its admission")
    return first.commit.events[0].data


def _end_of(view: View, opening: TaskAccepted, due: Fired) -> TaskFailed | TaskCanceled | None:
    if due.kind == command.DEADLINE and opening.deadline_s is not None:
        told, hint = "the task did not end within its deadline_s", None
        if view.never_started:
            told, hint = "no executor began the task within its deadline_s", "is its app served? `mesh doctor` looks"
        return TaskFailed(error=Error(code=codes.DEADLINE_EXCEEDED, message=told, hint=hint))
    if due.kind == command.CANCEL_GRACE and view.head.cancel:
        return TaskCanceled(reason="canceled on request; its worker did not stop in time")
    if due.kind == command.UNDELIVERABLE and view.head.phase == "runnable" and not view.head.starts:
        return TaskFailed(error=exhausted(0))
    return None


def _resume(router: Router, view: View, due: Fired) -> Flow[bool]:
    """S4: runnable again as soon as an app version is there that has not tried it; False to decide again.

    The timer is published before the suspension (R7), so it may fire while the owner still runs: then it is set again.
    A task that is runnable was perhaps resumed by a router that died before it published the run command (S3).
    """
    if view.head.phase == "runnable" and not view.never_started:
        yield Publish(((yield from wake_message(router.names, view)),))
        return True
    if view.head.phase == "running":
        yield from _resume_later(router, view, due)
        return True
    if not view.head.not_apps:
        return True
    first: Entry | None = yield ReadFirst(view.task, view.first)
    agent = first.commit.events[0].data.agent if first else ""
    fitting = sorted(router.registry.versions_of(agent) - set(view.head.not_apps))
    if not fitting:
        yield from _resume_later(router, view, due)
        return True
    result = yield from append(view, router.writer, (event(TaskResumed(reason=f"app version {fitting[0]}")),))
    if result.stored:
        yield Publish(((yield from wake_message(router.names, result.view)),))
    return result.stored


def _resume_later(router: Router, view: View, due: Fired) -> Flow[None]:
    delay_s = min(max(due.delay_s, FIRST_RESUME_S) * 2, LAST_RESUME_S)
    yield Publish((timer(router.names, view.task, command.RESUME, after_s=delay_s, delay_s=delay_s),))


def reconcile(router: Router, view: View, in_queue: bool) -> Flow[None]:
    """Q3 for one task: publishes what a purge, a power loss or an operator took away.

    `in_queue` says whether the command that the head asks for is still in the work queue.
    """
    if in_queue or view.head.phase in ("none", "suspended", "ended"):
        return
    if view.never_started:
        first: Entry | None = yield ReadFirst(view.task, view.first)
        if first:
            yield from _first_run(router, view, first.commit)
        return
    if view.head.phase == "running":
        result = yield from append(view, router.writer, (event(TaskResumed(reason="its command was lost")),))
        if not result.stored:
            return
        view = result.view
    yield Publish(((yield from wake_message(router.names, view)),))


def wants_timer(head: Head) -> bool:
    """Whether a task waits for a timer, besides those that it may have set by itself."""
    waits = head.cancel or head.deadline or (head.phase == "suspended" and bool(head.not_apps))
    return waits and head.phase not in ("none", "ended")


def set_again(router: Router, view: View, timers: frozenset[str]) -> Flow[None]:
    """Q3 for the timers of one task: sets those again that its head asks for and that are not among `timers`."""
    missing: list[Message] = []
    head = view.head
    if head.cancel and command.CANCEL_GRACE not in timers:
        missing.append(timer(router.names, view.task, command.CANCEL_GRACE, after_s=router.cancel_grace_s))
    if head.phase == "suspended" and head.not_apps and command.RESUME not in timers:
        missing.append(timer(router.names, view.task, command.RESUME, after_s=FIRST_RESUME_S, delay_s=FIRST_RESUME_S))
    if head.deadline and command.DEADLINE not in timers:
        missing.append(_deadline(router.names, view.task, (yield from _opening(view))))
    if missing:
        yield Publish(tuple(missing))


def hand_on(router: Router, task: str, lost: Lost) -> Flow[bool]:
    """K1 for a task: takes it from a worker whose connection is gone; True if its delivery is to be given back.

    The release says in the log why the next start follows so soon. It is no attempt of its own, and it fences a worker
    that is cut off and lives. A task that has been handed on too often without progress is left to `ack_wait`.
    """
    if (yield Holds(lost.worker, lost.seq, lost.delivery)):
        return False
    while True:
        newest: Entry | None = yield Read(task)
        if newest is None:
            return False
        view = view_of(newest)
        if not _is_owner(view, lost) or view.head.cut_offs >= router.max_cut_offs:
            return False
        result = yield from append(view, router.writer, (event(TaskReleased(reason=CUT_OFF)),))
        if result.stored:
            return True


def _is_owner(view: View, lost: Lost) -> bool:
    head = view.head
    return (head.phase, head.owner, head.cover, head.delivery) == ("running", lost.worker, lost.seq, lost.delivery)


def hand_on_call(call: Call, lost: Lost) -> Flow[bool]:
    """K1 for a call: whether it is to be given back; its next runner finds in the log what may be repeated (T1)."""
    if (yield Holds(lost.worker, lost.seq, lost.delivery)):
        return False
    entries: tuple[Entry, ...] = yield ReadAfter(call.task, max(0, call.first - 1), 0)
    newest: Struct | None = None
    for data in (one.data for entry in entries for one in entry.commit.events):
        if isinstance(data, StepStarted | StepCompleted | StepFailed) and data.step == call.step:
            newest = data
    if newest is None:
        return True
    return isinstance(newest, StepStarted) and (newest.by, newest.cover) == (lost.worker, lost.seq)
