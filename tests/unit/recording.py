"""A context over a log that is only in memory: the handler's side without a broker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mesh.agents.app import Mesh
from mesh.agents.context import Context, TaskInfo
from mesh.agents.emits import Emits
from mesh.errors import TaskCancelled
from mesh.log.journal import Journal
from mesh.testing.objects import MemoryObjects
from schemas import envelope
from schemas.envelope import Commit, Event, Head, event
from schemas.instant import rfc3339
from schemas.task import TaskAccepted, TaskStarted
from tests.recorder import StepsOnly

Handler = Callable[[Context], Any]


class Log:
    """The commits of one task; each `recorder` is one more claim of it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.told: list[tuple[int, str]] = []
        self.objects = MemoryObjects()
        self.append(event(TaskAccepted(agent="a", pool="p", digest="d", sequence=1, at=self.time)))

    @property
    def time(self) -> str:
        return rfc3339(1_700_000_000 + len(self.bodies))

    @property
    def commits(self) -> list[Commit]:
        return [envelope.decode(body) for body in self.bodies]

    @property
    def events(self) -> list[Any]:
        return [one.data for commit in self.commits[1:] for one in commit.events if one.type != "task.started"]

    def append(self, *events: Event) -> str:
        n, at = len(self.bodies), self.time
        commit = Commit(v=1, task="t", n=n, nonce=f"{n}", by="executor/w", at=at, head=Head(), events=events)
        self.bodies.append(envelope.encode(commit))
        return at

    def claim(self, secrets: Mapping[str, str] | None = None) -> tuple[Context, MemoryRecorder]:
        self.append(event(TaskStarted(wake=0, cover=1, owner="w", attempt=1)))
        journal = Journal(self.commits)
        recorder = MemoryRecorder(self, journal)
        info = TaskInfo(id="t", agent="a", context_id="t", attempt=journal.claims)
        context = Context(
            info, None, journal, recorder, tools=Mesh("none").find_tool, secrets=(secrets or {}).get
        )  # fmt: skip
        return context, recorder


class MemoryRecorder(StepsOnly):
    """Records in a `Log`; `dies_before` is the number of a commit that never happens."""

    def __init__(self, log: Log, journal: Journal) -> None:
        super().__init__()
        self.emits = Emits(journal.claims, len(journal.text), lambda: 0.0)
        self.log = log
        self.objects = log.objects
        self.dies_before: int | None = None

    async def commit(self, events: tuple[Event, ...]) -> str:
        if self.dies_before == len(self.log.bodies):
            raise Died
        every = (*self.emits.take(), *events)
        return self.log.append(*every) if every else self.log.time

    async def lease(self) -> None:
        if self.stopping:
            raise TaskCancelled("asked to stop")

    async def tell(self, text: str, offset: int) -> None:
        self.log.told.append((offset, text))


class Died(BaseException):
    """The worker was killed."""


async def run(log: Log, handler: Handler, *, dies_before: int | None = None) -> Any:
    """One claim of the task: its handler from the beginning, and what the executor commits at its end."""
    context, recorder = log.claim()
    recorder.dies_before = dies_before
    value = await handler(context)
    context.replay.check_complete()
    await recorder.commit(())
    return value
