"""One run of a task whose worker may be killed at one of its writes."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

from mesh.agents.app import Mesh
from mesh.client import Client, Result
from mesh.errors import BusUnavailable
from mesh.log.driver import entry_of
from mesh.log.head import Entry
from mesh.log.merge import TaskEvent
from mesh.server import EmbeddedServer
from mesh.settings import Settings
from mesh.testing.local_mesh import LocalMesh
from mesh.testing.logs import text_of_tail
from mesh.testing.orders import KillPoint, Side
from mesh.testing.processes import Processes, WorkerProcess
from mesh.testing.trace import POINT, TraceLine
from mesh.testing.waiting import eventually
from schemas.task import TERMINAL

TASK: Final = "crash-point"
TIMEOUT_S: Final = 20.0
EVENTS_PER_TAIL: Final = 3
SETTINGS: Final = Settings(ack_wait_s=0.5, drain_s=1.0)


How = Literal["kill", "freeze"]
_PAST: Final[dict[How, str]] = {"kill": "killed", "freeze": "froze"}
_SIGNALS: Final[dict[How, int]] = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP}


class CrashPoint(Struct, frozen=True, kw_only=True):
    """Where a worker is killed or frozen: before or after its append or publish of this number."""

    role: str
    kind: str
    number: int
    side: Side
    subject: str = ""
    how: How = "kill"

    def __str__(self) -> str:
        return f"{_PAST[self.how]} {self.role} {self.side} {self.kind} {self.number} ({self.subject})"


class Scenario(Struct, frozen=True, kw_only=True):
    """What is run each time; `cancel_at` is the phase of the task in which a client asks it to stop."""

    app: Mesh | str
    agent: str
    input: Any
    server: EmbeddedServer
    cancel_at: str = ""


class Run(Struct, kw_only=True):
    """What came of one run; `reached` says whether the worker was killed at the point at all."""

    point: CrashPoint | None = None
    reached: bool = False
    result: Result | None = None
    entries: list[Entry] = []
    tails: dict[str, list[TaskEvent]] = {}
    trace: list[TraceLine] = []
    roles: dict[int, str] = {}
    left: list[str] = []
    broken: str = ""

    @property
    def text(self) -> str:
        """What a reader of the task is left with."""
        return text_of_tail(self.tails.get(FOLLOWED, ())).get(("", 0), "")


FOLLOWED: Final = "the tail from the start"
RESUMED: Final = "the tail that resumes by cursor"


async def run_once(scenario: Scenario, point: CrashPoint | None) -> Run:
    """Runs the task once on a mesh of its own; one worker falls at the point and is replaced."""
    run = Run(point=point, tails={FOLLOWED: [], RESUMED: []})
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mesh-crash-")))
        mesh = await stack.enter_async_context(
            LocalMesh(server=scenario.server, settings=SETTINGS, routers=1 if point and point.role != "router" else 0)
        )
        processes = await stack.enter_async_context(
            Processes(mesh.url, scenario.app, settings=mesh.settings, trace=folder / "trace")
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await _play(scenario, run, mesh, processes)
                run.left = await _left_in_queue(mesh)
        except TimeoutError:
            run.broken = f"the task had not ended after {TIMEOUT_S:g} s"
        if await mesh.bus.newest(mesh.names.tasks, mesh.names.task(TASK), leader=True):
            run.entries = await mesh.log(TASK)
        run.trace = processes.read_trace()
    return run


async def _play(scenario: Scenario, run: Run, mesh: LocalMesh, processes: Processes) -> None:
    router = await _start(run, processes, "router") if run.point is None or run.point.role == "router" else None
    executor = await _start(run, processes, "executor")
    victims = {"router": router, "executor": executor}
    if executor.has_tools:
        victims["tool-runner"] = await _start(run, processes, "tool-runner")
    task = await mesh.client.submit(scenario.agent, scenario.input, task_id=TASK)
    async with asyncio.TaskGroup() as group:
        group.create_task(_follow(mesh.client, run.tails[FOLLOWED]))
        group.create_task(_resume(mesh.client, run.tails[RESUMED]))
        result = group.create_task(task.result())
        if scenario.cancel_at:
            group.create_task(_cancel(mesh, scenario.cancel_at))
        victim = victims.get(run.point.role) if run.point else None
        if victim is not None:
            await _replace(run, mesh, processes, victim, result)
        run.result = await result
    if victim is not None and run.point and run.point.how == "freeze":
        victim.thaw()
        await victim.drain()


async def _cancel(mesh: LocalMesh, phase: str) -> None:
    """The request is stored in any case; whether it is answered depends on what becomes of the router."""
    await eventually(lambda: _is_in(mesh, phase), TIMEOUT_S)
    with suppress(BusUnavailable):
        await mesh.client.cancel(TASK)


async def _is_in(mesh: LocalMesh, phase: str) -> bool:
    newest = await mesh.bus.newest(mesh.names.tasks, mesh.names.task(TASK), leader=True)
    return newest is not None and entry_of(newest).commit.head.phase == phase


async def _start(run: Run, processes: Processes, role: str) -> WorkerProcess:
    point = run.point
    kill = None
    if point and point.role == role:
        kill = KillPoint(kind=point.kind, number=point.number, side=point.side, signal=_SIGNALS[point.how])
    one = await processes.start(role, kill=kill)
    run.roles[one.pid] = role
    return one


async def _replace(
    run: Run, mesh: LocalMesh, processes: Processes, victim: WorkerProcess, result: asyncio.Task[Result]
) -> None:
    """A clean worker takes the victim's place; none if the task ends before the victim comes to its point.

    The point may also lie after the end of the task, before the acknowledgement, so the victim gets a moment more.
    """
    fallen = asyncio.create_task(_fallen(run, processes, victim))
    try:
        await asyncio.wait((fallen, result), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((fallen,), timeout=SETTINGS.ack_wait_s)
        run.reached = fallen.done()
    finally:
        fallen.cancel()
    if not run.reached:
        return
    if victim.service == "router":
        await mesh.start("router")
    else:
        again = await processes.start(victim.service)
        run.roles[again.pid] = victim.service


async def _fallen(run: Run, processes: Processes, victim: WorkerProcess) -> None:
    if run.point and run.point.how == "kill":
        await victim.wait()
    else:
        await eventually(lambda: any(line.kind == POINT for line in processes.read_trace()), TIMEOUT_S)


async def _follow(client: Client, seen: list[TaskEvent]) -> None:
    async with aclosing(client.task(TASK).tail()) as events:
        async for event in events:
            seen.append(event)


async def _resume(client: Client, seen: list[TaskEvent]) -> None:
    """Leaves after a few events and comes back with its cursor, until the end."""
    ended = False
    while not ended:
        async with aclosing(client.task(TASK).tail(seen[-1].cursor if seen else None)) as events:
            async for event in _some(events):
                seen.append(event)
                ended = event.type in TERMINAL


async def _some(events: AsyncIterator[TaskEvent]) -> AsyncIterator[TaskEvent]:
    count = 0
    async for event in events:
        yield event
        count += 1
        if count == EVENTS_PER_TAIL:
            return


async def _left_in_queue(mesh: LocalMesh) -> list[str]:
    """What stays in the work queue after a while."""

    async def none_left() -> None:
        assert not await mesh.left_in_queue()

    try:
        await eventually(none_left, SETTINGS.ack_wait_s * 10)
    except AssertionError:
        return await mesh.left_in_queue()
    return []
