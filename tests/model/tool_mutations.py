"""Flows of tool calls with one rule taken away."""

from __future__ import annotations

from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from mesh.log.head import Entry, View, view_of
from mesh.log.journal import WAITING, Journal
from mesh.log.ops import Append, Calls, Message, Publish, ReadAfter, Tell
from mesh.log.owner import Fenced
from mesh.log.steps import Step, call_step
from schemas.command import Call
from schemas.envelope import Event, encode, event
from schemas.signal import Told
from schemas.step import Result, StepCompleted, StepFailed, StepRequested, StepStarted
from schemas.task import TaskSuspended
from services.tool_runner import rules
from services.tool_runner.rules import Begun, Delivered, Runner
from tests.model import calling
from tests.model.mutations import Bend
from tests.model.parts import DONE, INBOX, NAMES, At, Effect, Follow, Process, Stamp, Tick, Tool


class SeesSteps(Bend):
    """Reads changed events of steps; `self.args` are those of `begin` or `finish`: the runner, the job, and more."""

    def change(self, data: Any) -> Any:
        return data

    def hear(self, op: Any, answer: Any) -> Any:
        if not isinstance(op, ReadAfter):
            return answer
        return tuple([Entry(e.seq, replace(e.commit, events=self._changed(e.commit.events))) for e in answer])

    def _changed(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        return tuple([event(self.change(each.data)) for each in events])


class ComparesNoCover(SeesSteps):
    """Takes every start for one that its own call was covered by."""

    def change(self, data: Any) -> Any:
        return replace(data, cover=self.args[1].seq) if isinstance(data, StepStarted) else data


class ComparesNoDelivery(SeesSteps):
    """Takes every start for that of a runner that has lost its delivery."""

    def change(self, data: Any) -> Any:
        return replace(data, delivery=0) if isinstance(data, StepStarted) else data


class ComparesNothing(SeesSteps):
    """Knows of a start nothing but that it is there, as if it named no call."""

    def change(self, data: Any) -> Any:
        return replace(data, cover=self.args[1].seq, delivery=0) if isinstance(data, StepStarted) else data


class RepeatsEverything(SeesSteps):
    """Takes every tool for one that may be repeated."""

    def change(self, data: Any) -> Any:
        return replace(data, idempotent=True) if isinstance(data, StepRequested) else data


class SeesNoResult(SeesSteps):
    """Does not see the results that are there."""

    def change(self, data: Any) -> Any:
        if isinstance(data, StepCompleted | StepFailed):
            return StepRequested(step=f"another than {data.step}", kind="tool", name="")
        return data


class MindsNobody(SeesSteps):
    """When it learns by reading that its own append is there, it does not mind what others wrote since."""

    def hear(self, op: Any, answer: Any) -> Any:
        mine = isinstance(op, ReadAfter) and any(entry.commit.nonce for entry in answer)
        return super().hear(op, answer) if mine else answer

    def change(self, data: Any) -> Any:
        known = isinstance(data, StepStarted | StepCompleted | StepFailed)
        return replace(data, step=f"another than {data.step}") if known else data


def believes_every_call_new(runner: Runner, job: Delivered, *, retry_of: int = 0) -> Process:
    """A beginning that does not look at the log first when a call may have been published before."""
    once = Delivered(replace(job.call, again=False), job.seq, job.delivery)
    return (yield from rules.begin(runner, once, retry_of=retry_of))


def cancels_first(runner: Runner, job: Delivered, *, retry_of: int = 0) -> Process:
    """A beginning that looks for a cancel request before it looks whose the call is."""
    call = job.call
    entries: tuple[Entry, ...] = yield ReadAfter(call.task, call.first - 1, 0)
    ends = [e for entry in entries for e in entry.commit.events if isinstance(e.data, StepCompleted | StepFailed)]
    if entries and entries[-1].commit.head.cancel and entries[-1].commit.head.phase != "ended" and not ends:
        failed = StepFailed(step=call.step, error=rules._canceled())
        return (yield from rules.finish(runner, job, view_of(entries[-1]), failed))
    return (yield from rules.begin(runner, job, retry_of=retry_of))


def performs_before_its_start(site: Any, task: str, call: Call, at: At) -> Process:
    """A runner without T2: the start goes with the result."""
    tool = next(tool for part in site.program for tool in getattr(part, "calls", ()) if tool.key == call.step)
    runner = Runner(names=NAMES, writer=Stamp("tool-runner"), worker="t")
    job = Delivered(replace(call, again=True), at.seq, at.delivered)
    entries: tuple[Entry, ...] = yield ReadAfter(task, call.first - 1, 0)
    view = view_of(entries[-1])
    verdict = yield from rules._settled(runner, job, view, rules._progress(entries, call.step), 0)
    if verdict is not None:
        return verdict
    yield Effect(tool, view, 1, view.seq)
    begun = yield from rules.begin(runner, job)
    if not isinstance(begun, Begun):
        return begun
    return (yield from rules.finish(runner, job, begun.view, StepCompleted(step=call.step)))


def runs_to_its_end(tool: Tool, view: View, attempt: int, seen: int) -> Process:
    """A runner without T4: it does not notice that nobody wants the result any more."""
    if tool.hangs:
        yield Tick(view.task, 10**6)
    yield Effect(tool, view, attempt, seen)
    return DONE


def looks_away(job: Delivered, view: View) -> Process:
    """A runner without E2: late, it does not heed what it reads."""
    yield from rules.look(job, view)
    return rules.Standing.OURS


def calls_once(journal: Journal, wanted: Step) -> Process:
    """A handler that does not publish an open intent again."""
    journal.owed.clear()
    return (yield from call_step(journal, wanted))


def forgets_what_it_owes(journal: Journal, wanted: Step) -> Process:
    """A call that says of itself that it is the first, whoever published it before."""
    flow, answer = call_step(journal, wanted), None
    while True:
        try:
            op = flow.send(answer)
        except StopIteration as stop:
            return stop.value
        answer = yield replace(op, again=False) if isinstance(op, Calls) else op


def publishes_nothing_yet(play: calling.Handler, op: Calls) -> Process:
    """Puts a call off until the task is suspended."""
    play.hear((yield Follow(play.task, play.seen)))
    play.heed()


def suspends_then_publishes(play: calling.Handler, awaited: tuple[str, ...]) -> Process:
    """Waiting without R7's order: the suspension first."""
    while True:
        yield from calling.read_on(play)
        play.heed()
        waits = [key for key in awaited if key not in play.journal.results]
        if not waits:
            return False
        if (yield from play.owner.suspend((event(TaskSuspended(reason=WAITING)),))):
            break
    bodies = [calling.call_command(play, Calls(key, again=True)) for key in waits]
    yield Publish(tuple([Message(subject=NAMES.call("demo"), body=body) for body in bodies]))
    return True


def publishes_when_fenced(play: calling.Handler, op: Calls) -> Process:
    """An owner that publishes by what it saw when it learned that the task is not its any more."""
    if not play.following:
        play.following = True
        try:
            play.hear((yield Follow(play.task, play.seen)))
        except Fenced:
            yield Publish((Message(subject=NAMES.call("demo"), body=calling.call_command(play, op)),))
            raise
    yield from calling.publish_call(play, op)


def publishes_whatever_was_asked(play: calling.Handler, op: Calls) -> Process:
    """An owner that publishes a call although the task was asked to stop."""
    play.hear((yield Follow(play.task, play.seen)))
    yield Publish((Message(subject=NAMES.call("demo"), body=calling.call_command(play, op)),))


def records_at_once(task: str) -> Process:
    """A runner that records what a broadcast stopped, and does not wait for its request."""
    yield from ()


def tells_over_others(runner: Runner, job: Delivered, view: View, outcome: Result) -> Process:
    """Tells its own commit as if it were the newest, whatever others have appended since."""
    flow, answer, commit = rules.finish(runner, job, view, outcome), None, None
    while True:
        try:
            op = flow.send(answer)
        except StopIteration as stop:
            return stop.value
        commit = op.commit if isinstance(op, Append) else commit
        answer = yield op
        if commit and isinstance(op, ReadAfter) and any(entry.commit.nonce for entry in answer):
            yield Tell(INBOX, Told(seq=answer[-1].seq, commit=Raw(encode(commit))))


def reads_nothing_on(play: calling.Handler) -> Process:
    """An owner that suspends over what it has appended over."""
    yield from ()
