"""Whole tasks as they were recorded, and the handlers that recorded them.

`python -m tests.compat.histories` writes the files that do not exist yet, from the flows that executors and routers
use, over a log in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from mesh.agents.app import Mesh
from mesh.agents.context import Context, TaskInfo
from mesh.agents.emits import Emits
from mesh.log.head import View, next_commit
from mesh.log.journal import Journal
from schemas import envelope
from schemas.envelope import Commit, Event, event
from schemas.task import (
    CancelRequested,
    TaskAccepted,
    TaskCanceled,
    TaskCompleted,
    TaskReleased,
    TaskStarted,
)
from tests.recorder import StepsOnly

FILES: Final = Path(__file__).parent / "histories"
AT: Final = "2026-01-02T03:04:%02d.000000Z"
Handler = Callable[[Context], Awaitable[Any]]


class Died(Exception):
    """The worker is gone; so the handler is left where it stands."""


class History(StepsOnly):
    """A log that grows commit by commit, as its writers would have it."""

    def __init__(self, commits: list[Commit]) -> None:
        super().__init__()
        self.commits = commits
        self.emits = Emits(1, 0, lambda: 0.0)
        self.by = "executor/executor-1-ab"
        self.left: int | None = None

    def stamp(self) -> tuple[str, str]:
        n = len(self.commits)
        return f"{n:016x}", AT % n

    def append(self, *events: Event, by: str | None = None) -> str:
        executor, self.by = self.by, by or self.by
        view = View("golden")
        if self.commits:
            newest = self.commits[-1]
            view = View("golden", 100 + newest.n, newest.n, 100, newest.head, newest.v)
        self.commits.append(next_commit(view, self, events))
        self.by = executor
        return self.commits[-1].at

    def context(self) -> Context:
        journal = Journal(self.commits)
        self.emits = Emits(journal.claims, len(journal.text), lambda: 0.0)
        assert journal.accepted is not None
        info = TaskInfo(id="golden", agent="report", context_id="golden", attempt=journal.claims)
        tools = Mesh("none").find_tool
        return Context(info, journal.accepted.input, journal, self, tools=tools, secrets=lambda name: None)

    async def commit(self, events: tuple[Event, ...]) -> str:
        if self.left is not None:
            if not self.left:
                raise Died
            self.left -= 1
        whole = (*self.emits.take(), *events)
        return self.append(*whole) if whole else ""


def accepted() -> History:
    history = History([])
    opening = TaskAccepted(agent="report", pool="shop", digest="d1", sequence=7, at=AT % 0, input="otters")
    history.append(event(opening), by="router/router-1-ab")
    return history


def claim(history: History, worker: str, attempt: int, delivery: int = 1) -> None:
    history.by = f"executor/{worker}"
    history.append(
        event(TaskStarted(wake=0, cover=9, delivery=delivery, owner=worker, attempt=attempt, app_version="1"))
    )


async def report(ctx: Context) -> str:
    """The handler of the first history; it must stay as it is."""
    facts = await ctx.step("facts", lambda topic: [topic, "float"], ctx.input)
    await ctx.emit_text(f"found {len(facts)} facts. ")
    await ctx.emit_event("counted", {"n": len(facts)})
    scores = await asyncio.gather(ctx.step("score-a", lambda: 1), ctx.step("score-b", lambda: 2))
    await ctx.emit_text("dönè 🦦")
    return f"{facts[0]} {sum(scores)} {ctx.now().isoformat()} {ctx.random.randrange(1000)}"


async def pays(ctx: Context) -> None:
    """The handler of the second history; it must stay as it is."""
    await ctx.emit_text("paying. ")
    await ctx.step("pay", lambda: "receipt 1", idempotent=False)
    await ctx.emit_text("paid. ")
    await ctx.step("pay", lambda: "receipt 2")
    await ctx.emit_text("never committed by the first worker. ")
    await ctx.step("pack", lambda: "parcel")


async def completed() -> History:
    history = accepted()
    claim(history, "executor-1-ab", 1)
    context = history.context()
    output = await report(context)
    history.append(*history.emits.take(), event(TaskCompleted(output=output)))
    return history


async def taken_over_and_cancelled() -> History:
    history = accepted()
    claim(history, "executor-1-ab", 1)
    history.left = 3
    try:
        await pays(history.context())
    except Died:
        history.left = None
    claim(history, "executor-2-cd", 1, delivery=2)
    history.append(event(TaskReleased()))
    claim(history, "executor-3-ef", 1, delivery=3)
    await pays(history.context())
    history.append(event(CancelRequested(id="cancel:1", reason="changed my mind")), by="router/router-1-ab")
    history.append(event(TaskCanceled(reason="canceled on request")))
    return history


HISTORIES: Final = {"completed": completed, "taken-over-and-cancelled": taken_over_and_cancelled}
HANDLERS: Final[dict[str, Handler]] = {"completed": report, "taken-over-and-cancelled": pays}


def read(name: str) -> list[Commit]:
    return [envelope.decode(line) for line in (FILES / f"{name}.jsonl").read_bytes().splitlines()]


def write_new() -> None:
    """Writes what has no file yet."""
    FILES.mkdir(exist_ok=True)
    for name, make in HISTORIES.items():
        file = FILES / f"{name}.jsonl"
        if not file.exists():
            commits = asyncio.run(make()).commits
            file.write_bytes(b"".join(envelope.encode(commit) + b"\n" for commit in commits))


if __name__ == "__main__":
    write_new()
