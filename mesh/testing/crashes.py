"""Kills a worker at each of its writes in turn, and looks whether anybody could tell."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, get_args

from msgspec import Struct

from mesh.agents.app import Agent, Mesh
from mesh.server import EmbeddedServer
from mesh.testing.crash_checks import check_run
from mesh.testing.crash_run import FOLLOWED, CrashPoint, How, Run, Scenario, run_once
from mesh.testing.logs import show_log, show_tail
from mesh.testing.orders import Side
from mesh.testing.trace import TraceLine

ROLES: Final = ("executor", "router", "tool-runner")
KINDS: Final = ("append", "publish")
SIDES: Final[tuple[Side, ...]] = get_args(Side)
AT_ONCE: Final = 4
MAX_SHOWN: Final = 3


class Finding(Struct, frozen=True):
    """A run that went wrong: where its worker was killed, and what could be told afterwards."""

    run: Run
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        point = self.run.point or "without any kill"
        return "\n".join([*(f"{point}: {what}" for what in self.wrong)])


class CrashReport(Struct, frozen=True):
    """All runs; `points` were tried, `unreached` are those at which the worker never came by."""

    undisturbed: Run
    runs: tuple[Run, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def points(self) -> list[CrashPoint]:
        return [run.point for run in self.runs if run.point]

    @property
    def unreached(self) -> list[CrashPoint]:
        return [run.point for run in self.runs if run.point and not run.reached]


class CrashPointsFailed(AssertionError):
    """At some points the kill could be told; `report` has all runs with their logs and tails."""

    def __init__(self, report: CrashReport) -> None:
        shown = [_shown(finding) for finding in report.findings[:MAX_SHOWN]]
        rest = [str(finding) for finding in report.findings[MAX_SHOWN:]]
        count = f"{len(report.findings)} of {len(report.runs) + 1} runs went wrong"
        super().__init__("\n".join([count, *shown, *rest]))
        self.report = report


async def crash_points(
    app: Mesh | str,
    agent: Agent | str,
    input: Any,
    *,
    kinds: Collection[str] = KINDS,
    roles: Collection[str] = ROLES,
    sides: Collection[str] = SIDES,
    once: Collection[str] = (),
    server: EmbeddedServer | None = None,
) -> CrashReport:
    """Runs a task once, then once for each write of its workers, with the worker killed exactly there.

    `app` is an app at the top level of a module that another process can import, or its target as the command line
    takes it. After each kill a clean worker takes over, and then nobody may be able to tell: the same outcome and text
    as undisturbed, every invariant of the log, a tail from the start and one that resumes by cursor which both tell
    exactly the log, an empty work queue, no step performed after its result was committed. Effects that `note_effect`
    was told of are made as often as undisturbed, unless they belong to a step that may be repeated; those named in
    `once` not even then. `kinds` may also hold `send`, `ack` and `perform`.

    A step or tool declared `idempotent=False` may end as an unknown outcome, if the kill hit the worker that makes such
    steps; how the task goes on is then the handler's policy, and its outcome is not compared. Any other step that ends
    so is a finding.

    Raises: CrashPointsFailed, an AssertionError, that names each point and what is wrong there.
    """
    async with _server(server) as server:
        scenario = Scenario(app=app, agent=_name(agent), input=input, server=server)
        return await try_points(scenario, Wanted(kinds=kinds, roles=roles, sides=sides), once)


async def freeze_points(
    app: Mesh | str,
    agent: Agent | str,
    input: Any,
    *,
    kinds: Collection[str] = KINDS,
    roles: Collection[str] = ROLES,
    sides: Collection[str] = SIDES,
    once: Collection[str] = (),
    server: EmbeddedServer | None = None,
) -> CrashReport:
    """As `crash_points`, but the worker is frozen there and wakes up when another one has ended its task.

    It must then write nothing that anybody sees, make no effect, and leave in order.

    Raises: CrashPointsFailed.
    """
    async with _server(server) as server:
        scenario = Scenario(app=app, agent=_name(agent), input=input, server=server)
        return await try_points(scenario, Wanted(kinds=kinds, roles=roles, sides=sides, how="freeze"), once)


class Wanted(Struct, frozen=True, kw_only=True):
    """Which writes of a run its worker falls at, and how."""

    kinds: Collection[str] = KINDS
    roles: Collection[str] = ROLES
    sides: Collection[str] = SIDES
    how: How = "kill"


async def try_points(scenario: Scenario, wanted: Wanted, once: Collection[str] = ()) -> CrashReport:
    """Runs a scenario undisturbed, then once for each wanted point; raises CrashPointsFailed."""
    undisturbed = await run_once(scenario, None)
    wrong = check_run(undisturbed, None, once)
    if wrong:
        raise CrashPointsFailed(CrashReport(undisturbed, (), (Finding(undisturbed, tuple(wrong)),)))
    runs = await _run_all(scenario, _points(undisturbed, wanted))
    checked = [(run, check_run(run, undisturbed, once)) for run in runs]
    findings = tuple(Finding(run, tuple(wrong)) for run, wrong in checked if wrong)
    report = CrashReport(undisturbed, tuple(runs), findings)
    if findings:
        raise CrashPointsFailed(report)
    return report


@asynccontextmanager
async def _server(given: EmbeddedServer | None) -> AsyncIterator[EmbeddedServer]:
    """The one that was given, or one for the time of the block."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="mesh-crash-", ignore_cleanup_errors=True) as folder:
        async with EmbeddedServer(Path(folder)) as server:
            yield server


def _name(agent: Agent | str) -> str:
    return agent.name if isinstance(agent, Agent) else agent


async def _run_all(scenario: Scenario, points: list[CrashPoint]) -> list[Run]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(point: CrashPoint) -> Run:
        async with room:
            return await run_once(scenario, point)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(point)) for point in points]
    return [task.result() for task in tasks]


def _points(run: Run, wanted: Wanted) -> list[CrashPoint]:
    """Every write of the undisturbed run, numbered by role, kind and side."""
    counts: dict[tuple[str, str, str], int] = {}
    points = []
    for line in run.trace:
        role, side = run.roles.get(line.pid, ""), _side(line)
        if side not in wanted.sides or role not in wanted.roles or line.kind not in wanted.kinds:
            continue
        assert side
        number = counts[role, line.kind, side] = counts.get((role, line.kind, side), 0) + 1
        subject = "mesh." + line.subject.partition(".")[2]
        points.append(CrashPoint(role=role, kind=line.kind, number=number, side=side, subject=subject, how=wanted.how))
    return points


def _side(line: TraceLine) -> Side | None:
    return next((side for side in SIDES if side == line.side), None)


def _shown(finding: Finding) -> str:
    run = finding.run
    return "\n".join([str(finding), show_log(run.entries), show_tail(run.tails.get(FOLLOWED, ()))])
