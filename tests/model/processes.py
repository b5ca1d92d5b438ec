"""What routers and executors do with a delivery: the project's own flows, and a small handler for them to run.

Everything that decides is a parameter (`Flows`), so that a test can take one rule away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mesh.log.claim import Claimant, Claimed, claim, decline
from mesh.log.head import Entry, view_of
from mesh.log.journal import Journal
from mesh.log.ops import Ack, Commits, Drop, Lease, Message, Nak, Publish, Read, ReadAfter
from mesh.log.owner import Fenced, Owner
from mesh.log.steps import Step, call_step, perform_step
from schemas import command, signal
from schemas.command import Fired, Run
from schemas.envelope import VERSION, event
from schemas.signal import Answer, TaskSignal
from schemas.task import MessageReceived, TaskCanceled, TaskCompleted, TaskSuspended
from services.router import rules
from services.tool_runner.rules import begin, finish, look, tell
from tests.model import calling
from tests.model.parts import (
    DRAIN,
    FRESH,
    NAMES,
    TOLD,
    At,
    Change,
    Cut,
    Dies,
    Do,
    GiveBack,
    Hang,
    Hangs,
    InQueue,
    Look,
    Part,
    Process,
    Program,
    Stamp,
    Tick,
    Tools,
    Undo,
    Wait,
)


@dataclass(frozen=True)
class Site:
    """What a process knows beside its delivery."""

    flows: Flows
    program: Program = ()
    version: str = "1"
    max_attempts: int = 3
    max_starts: int = 3
    waits: int = 0
    able: bool = True
    inbox: bool = False
    max_cut_offs: int = 1


@dataclass(frozen=True)
class Apps:
    """A registry that holds one agent's newest version."""

    version: str

    def pool_of(self, agent: str) -> str:
        return agent

    def versions_of(self, agent: str) -> set[str]:
        return {self.version}


def router_of(site: Site) -> rules.Router:
    """The router's collaborators."""
    return rules.Router(
        names=NAMES, writer=Stamp("router"), registry=Apps(site.version), max_cut_offs=site.max_cut_offs
    )  # fmt: skip


def route(site: Site, task: str, body: Any, at: At) -> Process:
    """A router's handler of one delivery."""
    router, flows = router_of(site), site.flows
    if isinstance(body, rules.Order):
        return (yield from flows.submit(router, body))
    if isinstance(body, Fired):
        return (yield from flows.fired(router, body))
    if isinstance(body, TaskSignal):
        if body.kind == signal.CANCEL:
            answer = yield from flows.cancel(router, task, body)
        else:
            answer = yield from flows.steer(router, task, body, site.waits)
        return Ack() if isinstance(answer, Answer) else answer
    if isinstance(body, Cut):
        return (yield from cut(router, flows, task, body))
    return (yield from reconcile(router, flows, task))


def cut(router: rules.Router, flows: Flows, task: str, body: Cut) -> Process:
    """K1: what a router does with one delivery of a worker whose connection was closed."""
    worker = "t" if body.call else "w"
    lost = rules.Lost(worker, body.seq, body.delivery)
    gone = flows.hand_on_call(body.call, lost) if body.call else flows.hand_on(router, task, lost)
    if (yield from gone):
        yield GiveBack(body.seq, body.delivery)
    return Drop()


def reconcile(router: rules.Router, flows: Flows, task: str) -> Process:
    """One pass of the reconciler over one task."""
    entry: Entry | None = yield Read(task)
    if entry:
        view = view_of(entry)
        in_queue = yield InQueue(task, view.head)
        yield from flows.reconcile(router, view, in_queue)
    return Drop()


def execute(site: Site, task: str, body: Run, at: At) -> Process:
    """An executor's handler of a run command."""
    if not site.able:
        entry: Entry | None = yield Read(task)
        if entry and entry.commit.head.phase != "ended":
            yield from site.flows.undeliverable(task)
            return Nak()
    writer = Stamp("executor/-")
    who = Claimant(worker="w", app_version=site.version, max_attempts=site.max_attempts)
    if site.version in body.not_apps and not body.head.cancel:
        return (yield from site.flows.decline(NAMES, body, at.seq, at.delivered, 0.0))
    claimed = yield from site.flows.claim(NAMES, writer, who, body, at.seq, at.delivered)
    if not isinstance(claimed, Claimed):
        return claimed
    writer.by = f"executor/{claimed.claim}"
    owner = site.flows.owner(NAMES, writer, claimed)
    try:
        return (yield from Play(site, task, owner).run())
    except Fenced:
        return Drop()


class Play:
    """A handler that plays a program over the journal of its task."""

    def __init__(self, site: Site, task: str, owner: Owner) -> None:
        self.site = site
        self.flows = site.flows
        self.task = task
        self.owner = owner
        self.following = False
        self.called: set[str] = set()
        self.heard: set[int] = set()
        self.undo: list[str] = []
        self.seen = 0
        self.messages = 0
        self.journal = Journal(())

    def run(self) -> Process:
        """Calls the handler until it has come to something."""
        while True:
            try:
                return (yield from self.flows.enter(self))
            except calling.Rerun:
                self.seen, self.messages, self.journal = 0, 0, Journal(())
                self.heard.clear()
                self.undo.clear()

    def call(self) -> Process:
        """From the beginning; one that was asked to stop passes through its recorded steps and begins nothing (X1)."""
        yield from self.read()
        try:
            for part in self.site.program:
                recorded = isinstance(part, Do) and part.key in self.journal.results
                if self.owner.cancel_requested and not recorded:
                    break
                suspended = yield from self.perform(part)
                if suspended:
                    return Ack()
        except calling.Stop as stop:
            return (yield from self.stop(stop.args[0]))
        return (yield from self.end(TaskCompleted()))

    def end(self, terminal: TaskCompleted | TaskCanceled) -> Process:
        """Undoes what is to be undone, and ends the task."""
        for key in self.undo:
            yield Undo(self.task, key)
        return (yield from self.owner.end(terminal))

    def read(self) -> Process:
        """Reads on to what the owner has seen at the least."""
        self.hear((yield ReadAfter(self.task, self.seen, self.owner.view.seq)))

    def hear(self, entries: tuple[Entry, ...]) -> None:
        """Takes what was read or heard."""
        for entry in entries:
            self.seen = entry.seq
            for each in entry.commit.events:
                self.journal.add(each, entry.commit.at)
                self.messages += isinstance(each.data, MessageReceived)
        if entries:
            self.owner.see(view_of(entries[-1]))

    def hear_told(self, entry: Entry) -> None:
        """Takes what a runner told of its own commit; what stands before it is read later."""
        self.heard.add(entry.seq)
        for each in entry.commit.events:
            self.journal.add(each, entry.commit.at)
        self.owner.see(view_of(entry))

    def heed(self) -> None:
        """Stops before anything that a task which was asked to stop must not begin."""
        if self.owner.cancel_requested:
            raise calling.Stop(TOLD)

    def perform(self, part: Part) -> Process:
        """One part of the program; True if the task is suspended."""
        if isinstance(part, Do):
            yield from self.step(part)
        elif isinstance(part, Tools):
            return (yield from calling.call_tools(self, part))
        elif isinstance(part, Wait):
            return (yield from self.wait(part.messages))
        elif isinstance(part, Change):
            if self.site.version in part.versions:
                return (yield from self.site.flows.changed(self))
        elif isinstance(part, Hang):
            entry = yield Hangs(self.task, self.owner.claim)
            self.owner.see(view_of(entry))
        else:
            yield Dies(self.task)
        return False

    def step(self, part: Do) -> Process:
        wanted = Step(key=part.key, kind="code", name=part.key, idempotent=not part.once)
        flow = self.site.flows.perform(self.journal, wanted)
        answer: Any = None
        while True:
            try:
                op = flow.send(answer)
            except StopIteration:
                self.undo += [part.key] if part.undo else []
                return
            answer = None
            if isinstance(op, Commits):
                yield from self.owner.commit(op.events)
            elif isinstance(op, Lease):
                yield from self.lease(part.key)
            else:
                answer = yield op

    def lease(self, key: str) -> Process:
        answer = yield Look(self.task, self.owner.view.seq, key)
        if isinstance(answer, Entry):
            self.owner.see(view_of(answer))
        elif answer != FRESH:
            raise calling.Stop(answer)
        self.heed()

    def wait(self, messages: int) -> Process:
        """Suspends unless the messages are there; looks first at what came meanwhile, also at what a commit skipped."""
        if self.seen < self.owner.view.seq:
            yield from self.read()
        while self.messages < messages and not self.owner.cancel_requested:
            waits = event(TaskSuspended(reason="input"))
            if (yield from self.owner.suspend((waits,))):
                return True
            yield from self.read()
        return False

    def stop(self, why: str) -> Process:
        """Leaves in order, or waits for the cancel request that a broadcast announced."""
        if why == DRAIN:
            return (yield from self.site.flows.release(self.owner))
        while not self.owner.cancel_requested:
            entry = yield Tick(self.task, self.owner.view.seq)
            self.owner.see(view_of(entry))
        return (yield from self.end(TaskCanceled()))


def changed(play: Play) -> Process:
    """R7 and S4: the resume timer, then the suspension that no worker of this version may take."""
    yield Publish((rules.timer(NAMES, play.task, command.RESUME, after_s=rules.FIRST_RESUME_S),))
    return (yield from suspend_changed(play))


def undeliverable(task: str) -> Process:
    """P4: after very many deliveries the router is asked to look."""
    due = Fired(v=VERSION, task=task, kind=command.UNDELIVERABLE)
    yield Publish((Message(subject=NAMES.fired(task), body=due),))


def suspend_changed(play: Play) -> Process:
    """The suspension of a handler that asks for other steps than the log holds."""
    while not play.owner.cancel_requested:
        not_apps = (*play.owner.view.head.not_apps, play.site.version)
        waits = event(TaskSuspended(reason="nondeterministic", not_apps=not_apps))
        if (yield from play.owner.suspend((waits,))):
            return True
    return False


@dataclass(frozen=True)
class Flows:
    """Everything that decides, each of it replaceable."""

    submit: Callable[..., Process] = rules.submit
    cancel: Callable[..., Process] = rules.cancel
    steer: Callable[..., Process] = rules.steer
    fired: Callable[..., Process] = rules.fired
    reconcile: Callable[..., Process] = rules.reconcile
    hand_on: Callable[..., Process] = rules.hand_on
    hand_on_call: Callable[..., Process] = rules.hand_on_call
    claim: Callable[..., Process] = claim
    decline: Callable[..., Process] = decline
    perform: Callable[..., Process] = perform_step
    owner: Callable[..., Owner] = Owner
    release: Callable[..., Process] = Owner.release
    changed: Callable[[Play], Process] = changed
    undeliverable: Callable[[str], Process] = undeliverable
    execute: Callable[[Site, str, Run, At], Process] = execute
    enter: Callable[[Play], Process] = Play.call
    call: Callable[..., Process] = call_step
    publish: Callable[..., Process] = calling.publish_call
    read_on: Callable[..., Process] = calling.read_on
    wait: Callable[..., Process] = calling.wait_for_calls
    make: Callable[..., Process] = calling.make_call
    begin: Callable[..., Process] = begin
    effect: Callable[..., Process] = calling.effect
    sure: Callable[[str], Process] = calling.sure
    look: Callable[..., Process] = look
    tell: Callable[..., Process] = tell
    finish: Callable[..., Process] = finish
