"""The services: whether they are there, answer, and come further."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mesh.bus import Bus
from mesh.census import census
from mesh.doctor.finding import Finding, State
from mesh.registry import Registry
from mesh.subjects import Subjects
from schemas.agent import WorkerRecord
from schemas.service import ServicePing

GRAVE: Final = frozenset({"stuck", "paused"})
RESTART: Final = "look at its log; restart it, which loses nothing: another one takes over from the log"


async def look(bus: Bus, names: Subjects, registry: Registry) -> list[Finding]:
    """Routers, then every worker with which something is the matter."""
    pings = [one for one in await census(bus, "$SRV.PING", ServicePing) if one.name.startswith(f"{names.prefix}-")]
    answering = {one.id: one for one in pings}
    found = [_routers(registry)]
    for worker in registry.workers:
        found += _worker(worker, answering.get(worker.worker))
    return found


def _routers(registry: Registry) -> Finding:
    routers = registry.of_service("router")
    if routers:
        return Finding("router", "ok", f"{len(routers)} at work")
    return Finding("router", "problem", "none is at work, so no task begins", "mesh service router, or mesh dev")


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
        found.append(
            Finding(worker.service, state, told, ping.metadata.get("cure") or (RESTART if health == "stuck" else ""))
        )
    return found
