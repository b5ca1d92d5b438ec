"""The services: whether they are there, answer, and come further."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mesh.bus import Bus
from mesh.census import census
from mesh.doctor.finding import Finding, State
from mesh.progress import HeldTask, duration, held_tasks
from mesh.registry import Registry
from mesh.settings import Settings
from mesh.subjects import Subjects
from schemas.agent import WorkerRecord
from schemas.service import ServicePing

GRAVE: Final = frozenset({"stuck", "paused", "unknown"})
QUIET_S: Final = 600.0
RESTART: Final = "look at its log; restart it, which loses nothing: another one takes over from the log"
CURES: Final = {
    "stuck": RESTART,
    "paused": "free space or raise the limit (disk and streams, above); it goes on by itself",
    "unknown": "look again in ten seconds; if it stays so, see to the broker",
    "busy": "start more of them, or wait",
}


async def look(bus: Bus, names: Subjects, settings: Settings, registry: Registry) -> list[Finding]:
    """Routers, then every worker with which something is the matter."""
    pings = [one for one in await census(bus, "$SRV.PING", ServicePing) if one.name.startswith(f"{names.prefix}-")]
    answering = {one.id: one for one in pings}
    found = [_routers(registry), *_session_stores(registry)]
    for worker in registry.workers:
        found += _worker(worker, answering.get(worker.worker))
        found += _quiet(worker, await held_tasks(bus, names, worker))
    return found + _settings(pings, f"{settings.ack_wait_s:g}")


def _routers(registry: Registry) -> Finding:
    routers = registry.of_service("router")
    if routers:
        return Finding("router", "ok", f"{len(routers)} at work")
    return Finding("router", "problem", "none is at work, so no task begins", "mesh service router, or mesh dev")


def _session_stores(registry: Registry) -> list[Finding]:
    if registry.of_service("session-store"):
        return []
    told = "none is at work: tasks run, but lists of them, conversations and purges wait for one"
    return [Finding("session-store", "note", told, "mesh service session-store")]


def _worker(worker: WorkerRecord, ping: ServicePing | None) -> Sequence[Finding]:
    found = [
        Finding(worker.service, "problem", f"{worker.worker}: {problem}", "its other agents work; mend it and restart")
        for problem in worker.problems
    ]
    if worker.abandoned_threads:
        told = f"{worker.worker} has {worker.abandoned_threads} blocking calls that nobody awaits"
        cure = "they cannot be stopped; give them time-outs, or restart that worker"
        found.append(Finding(worker.service, "problem", told, cure))
    if worker.stuck:
        found.append(Finding(worker.service, "problem", f"{worker.worker} is stuck: {worker.stuck}", RESTART))
    elif ping is None:
        told = f"{worker.worker} has just been there and does not answer: it is leaving, was killed, or hangs"
        found.append(Finding(worker.service, "note", told, "look again in ten seconds; its record is gone by then"))
    elif (health := ping.metadata.get("health", "ok")) != "ok":
        state: State = "problem" if health in GRAVE else "note"
        told = f"{worker.worker} is {health}: {ping.metadata.get('reason', '')}"
        cure = ping.metadata.get("cure") or CURES.get(health, "")
        found.append(Finding(worker.service, state, told, cure))
    return found


def _settings(pings: Sequence[ServicePing], here: str) -> list[Finding]:
    """Whether every service counts with the same time as we do."""
    others: dict[str, list[str]] = {}
    for ping in pings:
        if (there := ping.metadata.get("ack_wait_s", here)) != here:
            others.setdefault(there, []).append(ping.id)
    cure = "it must be the same everywhere, or tasks of living workers are given to others: set it and restart"
    return [
        Finding("settings", "problem", f"{', '.join(sorted(ids))}: MESH_ACK_WAIT_S={there}; here it is {here}", cure)
        for there, ids in sorted(others.items())
    ]


def _quiet(worker: WorkerRecord, tasks: list[HeldTask]) -> list[Finding]:
    """That may be in order: a long computation shows nothing."""
    quiet = [one for one in tasks if one.quiet_s > QUIET_S]
    if not quiet:
        return []
    longest, more = quiet[0], f", and {len(quiet) - 1} more" if len(quiet) > 1 else ""
    told = f"{worker.worker} holds {longest.task}, which came no further for {duration(longest.quiet_s)}{more}"
    cure = f"mesh show {longest.task} says what it did last; mesh cancel ends it; mesh worker ls names the others"
    return [Finding(worker.service, "note", told, cure)]
