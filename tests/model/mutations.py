"""Flows with one rule taken away: each bends what a real flow asks, hears or returns, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from mesh.log.head import Entry, fold
from mesh.log.journal import Journal
from mesh.log.ops import UNKNOWN, Ack, Append, Conflict, Drop, Holds, Message, Nak, Publish, Read, ReadAfter, Stored
from mesh.log.owner import Owner
from mesh.log.steps import Step, perform_step
from schemas import command, task
from schemas.command import DeadLetter, Ended, Run
from schemas.envelope import Event, Head
from schemas.signal import Answer, TaskSignal
from schemas.task import MessageReceived, TaskCanceled
from services.router import rules
from tests.model.calling import Stop
from tests.model.parts import FRESH, NAMES, At, Dies, Look, Process, Verb
from tests.model.processes import Play, Site, suspend_changed


class Bend:
    """Bends one execution of a flow; `args` are the flow's own. This one changes nothing."""

    def __init__(self, *args: Any) -> None:
        self.args = args
        self.stored = False

    def before(self, op: Any) -> Any:
        """An operation to slip in before this one, or None."""
        return None

    def ask(self, op: Any) -> Any:
        """What is asked instead; None asks nothing."""
        return op

    def hear(self, op: Any, answer: Any) -> Any:
        return answer

    def end(self, result: Any) -> Any:
        return result


def bent(flow: Callable[..., Process], bend: Callable[..., Bend]) -> Callable[..., Process]:
    """The flow as this bend makes it."""

    def run(*args: Any, **more: Any) -> Process:
        bending, inner, answer = bend(*args), flow(*args, **more), None
        while True:
            try:
                op = inner.send(answer)
            except StopIteration as stop:
                return bending.end(stop.value)
            extra = bending.before(op)
            if extra is not None:
                yield extra
            asked = bending.ask(op)
            answer = None if asked is None else bending.hear(op, (yield asked))
            bending.stored = bending.stored or isinstance(answer, Stored)

    return run


def seen_as(answer: Any, change: Callable[[Head], Head]) -> Any:
    """The answer of a read with the newest head changed."""
    if isinstance(answer, tuple) and answer:
        return (*answer[:-1], seen_as(answer[-1], change))
    if isinstance(answer, Entry):
        return Entry(answer.seq, replace(answer.commit, head=change(answer.commit.head)))
    return answer


class SeesHead(Bend):
    """Reads a changed head."""

    def change(self, head: Head) -> Head:
        return head

    def hear(self, op: Any, answer: Any) -> Any:
        return seen_as(answer, self.change) if isinstance(op, Read | ReadAfter) else answer


class Silent(Bend):
    """Does not publish what `drops` says."""

    def drops(self, message: Message) -> bool:
        return True

    def ask(self, op: Any) -> Any:
        if not isinstance(op, Publish):
            return op
        kept = tuple([m for m in op.messages if not self.drops(m)])
        return Publish(kept) if kept else None


class ForgetsOwnCommit(Bend):
    def hear(self, op: Any, answer: Any) -> Any:
        if not isinstance(op, ReadAfter):
            return answer
        return tuple([Entry(e.seq, replace(e.commit, nonce="")) for e in answer])


class BelievesSilence(Bend):
    def hear(self, op: Any, answer: Any) -> Any:
        return Stored(op.expected + 1) if answer is UNKNOWN else answer


class JudgesByNewestType(SeesHead):
    """Thinks that a task whose newest commit is a message is running."""

    def hear(self, op: Any, answer: Any) -> Any:
        entry = answer[-1] if isinstance(op, ReadAfter) and answer else None
        if entry and isinstance(entry.commit.events[-1].data, MessageReceived):
            return seen_as(answer, lambda head: replace(head, phase="running"))
        return answer


class KnowsNoIds(Bend):
    def hear(self, op: Any, answer: Any) -> Any:
        if not isinstance(op, ReadAfter):
            return answer
        return tuple([Entry(e.seq, replace(e.commit, events=tuple(map(self._other, e.commit.events)))) for e in answer])

    def _other(self, each: Event) -> Event:
        known = isinstance(each.data, MessageReceived)
        return Event(each.type, replace(each.data, id="another")) if known else each


class SeesNoEnd(SeesHead):
    def change(self, head: Head) -> Head:
        return replace(head, phase="running") if head.phase == "ended" else head


class ReadsFromAReplica(Bend):
    """Reads where the newest commit has not arrived yet."""

    def ask(self, op: Any) -> Any:
        return ReadAfter(op.task, 0, 0) if isinstance(op, Read) else op

    def hear(self, op: Any, answer: Any) -> Any:
        if not isinstance(op, Read):
            return answer
        return answer[-2] if len(answer) > 1 else None


class ReadsNothingMore(Bend):
    """Reads its log once, and later only what an append was refused for."""

    refused = False

    def hear(self, op: Any, answer: Any) -> Any:
        skips = isinstance(op, ReadAfter) and op.after > 0 and not self.refused
        self.refused = isinstance(answer, Conflict)
        return () if skips else answer


class AcksFirst(Bend):
    def before(self, op: Any) -> Any:
        return Verb(Ack()) if isinstance(op, Publish) else None


class SeesOwnDigest(Bend):
    def hear(self, op: Any, answer: Any) -> Any:
        if not isinstance(op, ReadAfter):
            return answer
        first = answer[0].commit
        opening = replace(first.events[0].data, digest=self.args[1].opening.digest)
        return (Entry(answer[0].seq, replace(first, events=(Event(task.ACCEPTED, opening),))), *answer[1:])


class FollowsUpOnlyItsOwn(Silent):
    """Publishes only what its own append asks for, nothing that an earlier delivery left undone."""

    def drops(self, message: Message) -> bool:
        return not self.stored


class PublishesNoRun(Silent):
    def drops(self, message: Message) -> bool:
        return isinstance(message.body, Run)


class PublishesNoTimer(Silent):
    def drops(self, message: Message) -> bool:
        return bool(message.target)


class TellsNobody(Silent):
    def drops(self, message: Message) -> bool:
        return isinstance(message.body, Ended) and not self.stored


class WritesNoLetter(Silent):
    def drops(self, message: Message) -> bool:
        return isinstance(message.body, DeadLetter) and not self.stored


class AcksInsteadOfNak(Bend):
    def end(self, result: Any) -> Any:
        return Ack() if isinstance(result, Nak) else result


class NaksInsteadOfAck(Bend):
    def end(self, result: Any) -> Any:
        return Nak() if isinstance(result, Ack) else result


class AcksInsteadOfDrop(Bend):
    def end(self, result: Any) -> Any:
        return Ack() if isinstance(result, Drop) else result


class NaksInsteadOfDrop(Bend):
    def end(self, result: Any) -> Any:
        return Nak() if isinstance(result, Drop) else result


class TakesEveryCopy(SeesHead):
    def change(self, head: Head) -> Head:
        return replace(head, cover=self.args[4])


class TakesNoRedelivery(SeesHead):
    def change(self, head: Head) -> Head:
        return replace(head, cover=-1)


class TakesOverLate(SeesHead):
    def change(self, head: Head) -> Head:
        return replace(head, delivery=0)


class NeverAsks(Bend):
    """Takes over without asking whether the owner is at work."""

    def hear(self, op: Any, answer: Any) -> Any:
        return False if isinstance(op, Holds) else answer


class NeverLooks(Bend):
    def hear(self, op: Any, answer: Any) -> Any:
        return FRESH if isinstance(op, Look) and isinstance(answer, Entry) else answer


class TrustsAgain(Bend):
    """After one look at the log takes a lease that had lapsed for a good one."""

    looked = False

    def hear(self, op: Any, answer: Any) -> Any:
        if not (isinstance(op, Look) and isinstance(answer, Entry)):
            return answer
        first, self.looked = not self.looked, True
        return answer if first else FRESH


class OnlyAsksToCancel(Bend):
    """Leaves a task that never started to an executor."""

    def ask(self, op: Any) -> Any:
        if not isinstance(op, Append) or len(op.commit.events) < 2:
            return op
        c = op.commit
        head = fold(Head(phase="runnable"), c.n, c.by, c.events[:1])
        return Append(replace(c, events=c.events[:1], head=head), op.expected)


class MissesResumeWhileRunning(PublishesNoTimer):
    def drops(self, message: Message) -> bool:
        return bool(message.target) and self.running

    running = False

    def hear(self, op: Any, answer: Any) -> Any:
        if isinstance(op, Read) and answer:
            self.running = answer.commit.head.phase == "running"
        return answer


def cancels_nothing_unknown(router: rules.Router, name: str, request: TaskSignal) -> Process:
    """Cancel without X2."""
    if (yield Read(name)) is None:
        return Answer(task=name, outcome="refused")
    return (yield from rules.cancel(router, name, request))


def hands_on_whoever_owns(router: rules.Router, name: str, lost: rules.Lost) -> Process:
    """K1 without a look at whose delivery the log names."""
    yield Holds(lost.worker, lost.seq, lost.delivery)
    head = (yield Read(name)).commit.head
    flow = rules.hand_on(router, name, rules.Lost(head.owner, head.cover, head.delivery))
    return (yield from bent(lambda: flow, NeverAsks)())


def works_before_it_claims(site: Site, name: str, body: Run, at: At) -> Process:
    """An executor without R5, of a task that kills it."""
    entry: Entry | None = yield Read(name)
    if entry and entry.commit.head.phase == "ended":
        return Ack()
    yield Dies(name)
    return Drop()


class Unfenced(Owner):
    """Without R6: goes on whatever the log says."""

    def _check(self, view: Any) -> None:
        return

    def _holds(self, view: Any) -> bool:
        return True


class Idle(Owner):
    """Without R8: leaves a wake open when there is nothing to do."""

    def suspend(self, events: tuple[Event, ...]) -> Process:
        yield from ()
        return True


class Deaf(Owner):
    """Without X4: does not heed a cancel request."""

    @property
    def cancel_requested(self) -> bool:
        return False


def suspends_then_publishes(play: Play) -> Process:
    """A nondeterministic suspension without R7."""
    suspended = yield from suspend_changed(play)
    yield Publish((rules.timer(NAMES, play.task, command.RESUME, after_s=rules.FIRST_RESUME_S),))
    return suspended


def performs_without_journal(journal: Journal, wanted: Step) -> Process:
    """A step without E1."""
    return (yield from perform_step(Journal(()), wanted))


def performs_without_start(journal: Journal, wanted: Step) -> Process:
    """A step that must not be repeated, treated as one that may."""
    return (yield from perform_step(journal, replace(wanted, idempotent=True)))


def leaves_without_commit(owner: Owner) -> Process:
    """A drain without P3."""
    yield from ()
    return Nak()


def ends_unentered(play: Play) -> Process:
    """X1 without a call of the handler: a task that was asked to stop is ended as it stands."""
    yield from play.read()
    if play.owner.cancel_requested:
        return (yield from play.owner.end(TaskCanceled()))
    return (yield from play.call())


def works_on(play: Play) -> Process:
    """A handler that is called for a cancel and goes on as if there were none."""
    yield from play.read()
    if not play.owner.cancel_requested:
        return (yield from play.call())
    play.heed = lambda: None  # type: ignore[method-assign]
    try:
        for part in play.site.program:
            yield from play.perform(part)
    except Stop as stop:
        return (yield from play.stop(stop.args[0]))
    return (yield from play.end(TaskCanceled()))


def gives_back(*args: Any) -> Process:
    """A worker that may not take a command and does not look at its log."""
    yield from ()
    return Nak()


def does_nothing(*args: Any) -> Process:
    """A flow that leaves everything as it is and acknowledges."""
    yield from ()
    return Ack()
