"""Looks at a mesh from outside and says what is wrong and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Final, Literal

from msgspec import Struct

from mesh.bus import Bus
from mesh.errors import StreamMismatch
from mesh.registry import Registry, read_registry
from mesh.settings import Settings
from mesh.streams import Definitions, definitions, run_consumer
from mesh.subjects import Subjects
from schemas.agent import AppRecord

MIN_VERSION: Final = (2, 12)
State = Literal["ok", "note", "problem"]


class Finding(Struct, frozen=True, omit_defaults=True):
    """One thing that was looked at; `cure` says what to do about a problem."""

    what: str
    state: State
    message: str
    cure: str = ""


async def examine(bus: Bus, settings: Settings, *, apply: bool) -> AsyncIterator[Finding]:
    """One finding after the other; with `apply`, what is missing is created first.

    Raises: BusUnavailable.
    """
    server = await _server(bus)
    yield server
    if server.state == "problem":
        return
    names = Subjects(settings.prefix)
    wanted = definitions(names, ack_wait_s=settings.ack_wait_s)
    if apply:
        yield await _applied(bus, wanted)
    if not await bus.has_mesh(names):
        yield Finding(
            "streams", "problem", f"there is no mesh '{settings.prefix}' on this server",
            "start a service, or create the streams now: mesh doctor --apply",
        )  # fmt: skip
        return
    streams = await _streams(bus, wanted)
    for finding in streams:
        yield finding
    if any(finding.message.endswith("is missing") for finding in streams):
        return
    registry = await read_registry(bus, names)
    for finding in [*await _pools(bus, names, settings, registry), *_services(registry), *_apps(registry)]:
        yield finding
    async for finding in _dead_letters(bus, names):
        yield finding


async def _server(bus: Bus) -> Finding:
    info = await bus.server_info()
    version = str(info["version"])
    shown = f"nats-server {version} at {bus.url}"
    if tuple(map(int, version.split(".")[:2])) < MIN_VERSION:
        return Finding("server", "problem", f"{shown} is too old", "run nats-server 2.12 or newer")
    if not info["jetstream"]:
        cure = "start it with -js, or enable JetStream for this account"
        return Finding("server", "problem", f"{shown} has no JetStream", cure)
    return Finding("server", "ok", f"{shown}, JetStream is on")


async def _applied(bus: Bus, wanted: Definitions) -> Finding:
    try:
        done = await bus.ensure(wanted)
    except StreamMismatch as error:
        return Finding("apply", "problem", error.message, error.hint or "")
    return Finding("apply", "ok", "; ".join(done) or "nothing was to be done")


async def _streams(bus: Bus, wanted: Definitions) -> list[Finding]:
    found = await bus.inspect(wanted)
    if not found:
        return [Finding("streams", "ok", "streams, buckets and consumers are as they must be")]
    cure = "mesh doctor --apply mends what loses nothing; MESH_… settings must be the same everywhere"
    return [Finding("streams", "problem", line, cure) for line in found]


async def _pools(bus: Bus, names: Subjects, settings: Settings, registry: Registry) -> list[Finding]:
    pools = sorted({app.pool for app in registry.apps})
    consumers = tuple(run_consumer(names, pool, ack_wait_s=settings.ack_wait_s) for pool in pools)
    found = await bus.inspect(Definitions(streams=(), buckets=(), consumers=consumers))
    cure = "start an executor of that app; MESH_… settings must be the same everywhere"
    return [Finding("pools", "problem", line, cure) for line in found]


def _services(registry: Registry) -> list[Finding]:
    routers = registry.of_service("router")
    if routers:
        found = [Finding("router", "ok", f"{len(routers)} at work")]
    else:
        found = [Finding("router", "problem", "none is at work, so no task begins", "mesh service router, or mesh dev")]
    return found + [
        Finding(
            "workers", "problem", f"{worker.worker} has {worker.abandoned_threads} blocking calls that nobody awaits",
            "they cannot be stopped; give them time-outs, or restart that worker",
        )
        for worker in registry.workers
        if worker.abandoned_threads
    ]  # fmt: skip


def _apps(registry: Registry) -> list[Finding]:
    if not registry.apps:
        return [Finding("app", "note", "no app has registered", "mesh service executor --app …, or mesh dev APP")]
    return [_app(app, len(registry.workers_of(app.pool))) for app in registry.apps]


def _app(app: AppRecord, workers: int) -> Finding:
    agents = ", ".join(agent.name for agent in app.agents) or "no agent"
    if workers:
        return Finding("app", "ok", f"{app.app} {app.version}: {workers} at work for {agents}")
    return Finding(
        "app", "problem", f"{app.app}: nobody is at work for {agents}; their tasks are accepted and wait",
        f"mesh service executor --app …, or forget the app: mesh agents --forget {app.app}",
    )  # fmt: skip


async def _dead_letters(bus: Bus, names: Subjects) -> AsyncIterator[Finding]:
    kinds: Counter[str] = Counter()
    for subject, count in (await bus.counts(names.dead_letters, names.dead("*", ">"))).items():
        kinds[subject.split(".")[2]] += count
    for kind, count in sorted(kinds.items()):
        yield Finding(
            "dead letters", "note", f"{kind}: {count}",
            f"each holds the reason and the original; they stand in {names.dead_letters} on {names.dead(kind, '>')}",
        )  # fmt: skip
    if not kinds:
        yield Finding("dead letters", "ok", "none")
