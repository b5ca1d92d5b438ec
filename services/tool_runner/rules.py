"""What a tool runner decides, as flows: rules T1 to T3.

A call is begun by a fenced append of its start and ended by a fenced append of its result. A start names the call that
it answers, so a copy of a call that another one covers is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

from msgspec import Raw, Struct

from mesh.log.append import Appended, append, tell_end, wake_message
from mesh.log.head import Entry, View, Writer, view_of
from mesh.log.ops import Ack, Drop, Flow, Holds, Nak, Publish, ReadAfter, Tell, Verdict
from mesh.log.steps import lost_with_runner
from mesh.subjects import Subjects, is_inbox
from schemas import error as codes
from schemas.command import Call
from schemas.envelope import encode, event
from schemas.error import Error
from schemas.object import LARGE_BYTES
from schemas.signal import Told
from schemas.step import Result, StepCompleted, StepFailed, StepProgress, StepRequested, StepStarted

NO_LOG_DELAY_S: Final = 1.0
MAX_TELLS: Final = 3


class Runner(Struct, frozen=True, kw_only=True):
    """What every decision of a tool runner needs; `max_starts` bounds how many runners may be lost with one call."""

    names: Subjects
    writer: Writer
    worker: str
    max_starts: int = 3


class Delivered(Struct, frozen=True):
    """A call as it was delivered: its own stream sequence, and how often."""

    call: Call
    seq: int
    delivery: int


class Begun(Struct, frozen=True):
    """The start stands in the log: the tool may run now, as this attempt.

    `lost` earlier attempts came to nothing with their runners; a tool's policy does not count them.
    """

    view: View
    attempt: int
    lost: int = 0


class Standing(Enum):
    """Whose a call is that a runner has begun: another one may have gone on with it, or its task may have ended."""

    OURS = "ours"
    LOST = "lost"
    ENDED = "ended"


class _Progress(Struct):
    """What the log holds of one step; `deliveries` are those that a start was made for."""

    requested: StepRequested | None = None
    started: StepStarted | None = None
    ended: Result | None = None
    deliveries: set[int] = set()

    def lost(self, job: Delivered) -> int:
        """How many runners began the call and neither ended it nor have it now; one makes all its attempts itself."""
        return len(self.deliveries - {job.delivery})


def begin(runner: Runner, job: Delivered, *, retry_of: int = 0, seen: int = 0) -> Flow[Begun | Verdict]:
    """T1 and T2: the start of a call, or what becomes of its delivery.

    The first append goes by what a call names that was never published before: if it is stored, nothing has come since
    the call was requested; a runner that has `seen` the log go on need not try. `retry_of` is the attempt that this
    runner itself made and saw fail.
    """
    call = job.call
    view, attempt = View(call.task, call.last, call.n, call.first, call.head, call.v), retry_of + 1
    lost, fresh = 0, retry_of > 0 or call.again or seen > call.last or not 0 < call.first < call.last
    while True:
        if fresh:
            entries: tuple[Entry, ...] = yield ReadAfter(call.task, max(0, call.first - 1), 0, call.step)
            progress = _progress(entries, call.step)
            if progress.requested is None:
                return Nak(NO_LOG_DELAY_S)
            view = view_of(entries[-1])
            verdict = yield from _settled(runner, job, view, progress, retry_of)
            if verdict is not None:
                return verdict
            attempt = progress.started.attempt + 1 if progress.started else 1
            lost = progress.lost(job)
        started = StepStarted(step=call.step, attempt=attempt, by=runner.worker, cover=job.seq, delivery=job.delivery)
        result = yield from append(view, runner.writer, (event(started),))
        if result.stored and not _overtaken(result, call.step):
            return Begun(result.view, attempt, lost)
        fresh = True


def finish(runner: Runner, job: Delivered, view: View, outcome: Result) -> Flow[Verdict]:
    """T3: the first result wins; then the wake duty, then the acknowledgement."""
    while True:
        result = yield from append(view, runner.writer, (event(outcome),))
        if result.stored:
            if view.head.phase == "suspended":
                yield Publish(((yield from wake_message(runner.names, result.view)),))
            else:
                yield from _say(job.call, result)
            return Ack()
        entries: tuple[Entry, ...] = yield ReadAfter(job.call.task, max(0, job.call.first - 1), 0, job.call.step)
        if not entries:
            return Nak(NO_LOG_DELAY_S)
        view = view_of(entries[-1])
        if view.head.phase == "ended" or _progress(entries, job.call.step).ended is not None:
            yield from _say_again(runner, view)
            return Ack()


def _say(call: Call, ended: Appended) -> Flow[None]:
    """Spares the owner the reading of its log; one that does not hear it reads on soon.

    Not where others have appended since: the view is theirs then, and the owner must read what they wrote.
    """
    if is_inbox(call.reply) and ended.view.n == ended.commit.n:
        body = encode(ended.commit)
        if len(body) <= LARGE_BYTES:
            yield Tell(call.reply, Told(seq=ended.view.seq, commit=Raw(body)))


def look(job: Delivered, view: View) -> Flow[Standing]:
    """E2: whose the call is, by what came after this runner's start."""
    entries: tuple[Entry, ...] = yield ReadAfter(job.call.task, view.seq, 0, job.call.step)
    if _went_on(entries, job.call.step):
        return Standing.LOST
    ended = bool(entries) and view_of(entries[-1]).head.phase == "ended"
    return Standing.ENDED if ended else Standing.OURS


def tell(runner: Runner, view: View, progress: StepProgress) -> Flow[View | None]:
    """How far a call has come, which is worth a few tries and no more; None once there is nobody to tell."""
    for _ in range(MAX_TELLS):
        if view.head.phase == "ended" or view.head.cancel:
            return None
        result = yield from append(view, runner.writer, (event(progress),))
        if not result.view.exists or _overtaken(result, progress.step):
            return None
        view = result.view
        if result.stored:
            break
    return view


def _settled(runner: Runner, job: Delivered, view: View, progress: _Progress, retry_of: int) -> Flow[Verdict | None]:
    """T1: what leaves nothing to begin; None if the call is to be made."""
    if view.head.phase == "ended" or progress.ended is not None:
        yield from _say_again(runner, view)
        return Ack()
    started = progress.started
    failed: Error | None = None
    if started is not None and started.attempt != retry_of:
        if started.cover != job.seq:
            return Ack()
        if started.delivery >= job.delivery:
            return Drop()
        if started.by and (yield Holds(started.by, started.cover, started.delivery)):
            return Drop()  # its runner is at it, and its ticks keep this delivery too
        if progress.requested is not None and not progress.requested.idempotent:
            failed = lost_with_runner(job.call.tool)
        elif progress.lost(job) >= runner.max_starts:
            failed = _exhausted(job.call, progress.lost(job))
    if failed is None and view.head.cancel:
        failed = _canceled()
    if failed is None:
        return None
    return (yield from finish(runner, job, view, _failed(job, started.attempt if started else 0, failed)))


def _overtaken(result: Appended, step: str) -> bool:
    """Whether somebody else went on with the call after this start, whose acknowledgement was lost."""
    return result.view.head.phase == "ended" or _went_on(result.news, step)


def _went_on(entries: Iterable[Entry], step: str) -> bool:
    return any(
        isinstance(one.data, StepStarted | StepCompleted | StepFailed) and one.data.step == step
        for entry in entries
        for one in entry.commit.events
    )


def _say_again(runner: Runner, view: View) -> Flow[None]:
    """S3 and N1: a runner that died after its append may have left this unsaid."""
    if view.head.phase == "ended":
        yield from tell_end(runner.names, view)
    elif view.head.phase == "runnable" and not view.never_started:
        yield Publish(((yield from wake_message(runner.names, view)),))


def _progress(entries: Iterable[Entry], step: str) -> _Progress:
    found = _Progress()
    for entry in entries:
        for one in entry.commit.events:
            data = one.data
            if isinstance(data, StepRequested) and data.step == step:
                found.requested = data
            elif isinstance(data, StepStarted) and data.step == step:
                found.started = data
                found.deliveries.add(data.delivery)
            elif isinstance(data, StepCompleted | StepFailed) and data.step == step:
                found.ended = found.ended or data
    return found


def _failed(job: Delivered, attempt: int, error: Error) -> StepFailed:
    return StepFailed(step=job.call.step, attempt=max(1, attempt), error=error)


def _canceled() -> Error:
    return Error(code=codes.TOOL_FAILED, message="the task was asked to stop before this call had a result")


def _exhausted(call: Call, lost: int) -> Error:
    return Error(
        code=codes.ATTEMPTS_EXHAUSTED,
        message=f"{lost} runners began tool '{call.tool}' and none of them came to a result",
        hint="look at the runners' own logs: each died or was cut off in the tool",
    )
