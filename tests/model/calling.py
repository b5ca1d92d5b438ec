"""Tool calls: what an owner asks for and waits for, and what a tool runner does with it.

The decisions are the project's own (`call_step`, `begin`, `finish`); the order around them is that of the two shells,
`mesh/agents/durable.py` with `services/executor/execution.py`, and `services/tool_runner/handlers.py`.
"""

from __future__ import annotations

from typing import Any, Protocol

from mesh.log.head import Entry, View
from mesh.log.journal import WAITING, Journal
from mesh.log.ops import Calls, Commits, Drop, Message, Nak, Publish
from mesh.log.owner import Owner
from mesh.log.steps import Step
from schemas.command import Call
from schemas.envelope import VERSION, event
from schemas.step import StepCompleted, StepFailed, StepProgress
from schemas.task import TaskSuspended
from services.tool_runner.rules import Begun, Delivered, Runner, Standing
from tests.model.parts import (
    DONE,
    DRAIN,
    FAILED,
    HELD,
    INBOX,
    LEFT,
    NAMES,
    STOPPED,
    TOLD,
    At,
    Do,
    Effect,
    Follow,
    Idle,
    Lapse,
    Process,
    Stamp,
    Sure,
    Tool,
    Tools,
)


class Stop(Exception):
    """The handler is to stop before its next effect, for the reason in `args`."""


class Rerun(Exception):
    """The handler is called again over what the log holds by now."""


class Handler(Protocol):
    """What a program is played by."""

    task: str
    owner: Owner
    journal: Journal
    seen: int
    following: bool
    called: set[str]
    heard: set[int]

    @property
    def flows(self) -> Any: ...

    @property
    def site(self) -> Any: ...

    def hear(self, entries: tuple[Entry, ...]) -> None: ...

    def hear_told(self, entry: Entry) -> None: ...

    def read(self) -> Process: ...

    def step(self, part: Do) -> Process: ...

    def heed(self) -> None: ...


def call_tools(play: Handler, part: Tools) -> Process:
    """Asks for all calls of this part and waits for them; True if the task is suspended."""
    asked = {}
    play.journal.owed -= play.called
    for tool in part.calls:
        flow = play.flows.call(play.journal, _wanted(tool))
        op = next(flow, None)
        if op is not None:
            asked[tool.key] = (flow, op)
    intents = [event for _, op in asked.values() if isinstance(op, Commits) for event in op.events]
    if intents:
        yield from play.owner.commit(tuple(intents))
        asked = {key: (flow, flow.send(None) if isinstance(op, Commits) else op) for key, (flow, op) in asked.items()}
    for _, op in asked.values():
        if isinstance(op, Calls):
            yield from play.flows.publish(play, op)
    if part.beside:
        yield from play.step(part.beside)
    return (yield from play.flows.wait(play, tuple(asked)))


def publish_call(play: Handler, op: Calls) -> Process:
    """R7: the log is followed before the first call, and nothing is asked for that the task does not want any more."""
    if not play.following:
        play.hear((yield Follow(play.task, play.seen)))
        play.following = True
    play.heed()
    yield Publish((Message(subject=NAMES.call("demo"), body=call_command(play, op)),))
    play.called.add(op.step)


def call_command(play: Handler, op: Calls) -> Call:
    """The call as the recorder writes it; what it says to the tool is left out."""
    view, arguments = play.owner.view, None
    return Call(
        v=VERSION, task=play.task, root=play.task, first=view.first, last=view.seq, n=view.n, head=view.head,
        step=op.step, tool=op.step, arguments=arguments, again=op.again,  # type: ignore[arg-type]
        reply=INBOX if play.site.inbox else "",
    )  # fmt: skip


def wait_for_calls(play: Handler, awaited: tuple[str, ...]) -> Process:
    """Waits for these results; after a while suspends, unless one came that the owner has not looked at yet."""
    while any(key not in play.journal.results for key in awaited):
        called, heard = frozenset(play.called), frozenset(play.heard)
        news = yield Idle(play.task, play.seen, play.owner.claim, play.owner.view, called, heard)
        if news in (TOLD, DRAIN):
            raise Stop(news)
        if isinstance(news, Entry):
            play.hear_told(news)
            play.heed()
            continue
        if news != HELD:
            play.hear(news)
            play.heed()
            continue
        waits = tuple(key for key in awaited if key not in play.journal.results)
        yield from play.flows.read_on(play)
        play.heed()
        if not any(key in play.journal.results for key in waits):
            suspended = event(TaskSuspended(reason=WAITING))
            if (yield from play.owner.suspend((suspended,))):
                return True
        raise Rerun
    return False


def read_on(play: Handler) -> Process:
    """Up to what the owner has appended over."""
    while play.seen < play.owner.view.seq:
        yield from play.read()


def make_call(site: Any, task: str, call: Call, at: At) -> Process:
    """A tool runner's handler of one delivery."""
    tools = [tool for part in site.program if isinstance(part, Tools) for tool in part.calls]
    tool = next(tool for tool in tools if tool.key == call.step)
    runner = Runner(names=NAMES, writer=Stamp("tool-runner"), worker="t", max_starts=site.max_starts)
    job = Delivered(call, at.seq, at.delivered)
    retry_of = 0
    while True:
        begun = yield from site.flows.begin(runner, job, retry_of=retry_of)
        if not isinstance(begun, Begun):
            return begun
        stale = yield Lapse(task)
        if stale and (yield from site.flows.look(job, begun.view)) is not Standing.OURS:
            return Drop()
        view = begun.view
        if tool.tells:
            view = (yield from site.flows.tell(runner, view, StepProgress(step=tool.key))) or view
        said = yield from site.flows.effect(tool, view, begun.attempt - begun.lost, max(begun.view.seq, stale))
        if said is FAILED and begun.attempt - begun.lost < tool.tries:
            retry_of = begun.attempt
            continue
        if said is LEFT and not tool.once:
            return Nak()
        if said is STOPPED:
            yield from site.flows.sure(task)
        outcome: StepCompleted | StepFailed
        if said == DONE:
            outcome = StepCompleted(step=tool.key, attempt=begun.attempt)
        else:
            outcome = StepFailed(step=tool.key, attempt=begun.attempt, error=said)
        return (yield from site.flows.finish(runner, job, view, outcome))


def sure(task: str) -> Process:
    """X1: what a broadcast stopped is recorded behind the request that it announced."""
    yield Sure(task)


def effect(tool: Tool, view: View, attempt: int, seen: int) -> Process:
    """The tool itself."""
    return (yield Effect(tool, view, attempt, seen))


def _wanted(tool: Tool) -> Step:
    return Step(key=tool.key, kind="tool", name=tool.key, idempotent=not tool.once)
