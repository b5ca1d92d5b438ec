"""Streams, buckets and consumers: whether they are there, as they must be, whole, and not full."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from mesh.bus import Bus, Difference, StreamState
from mesh.doctor.finding import Finding
from mesh.registry import Registry
from mesh.settings import Settings
from mesh.streams import Definitions, call_consumer, run_consumer
from mesh.subjects import Subjects

FULL: Final = 0.9
AWAY_S: Final = 5.0
MANY_LOGS: Final = 2_000_000


async def look(
    bus: Bus, names: Subjects, wanted: Definitions, differing: Sequence[Difference]
) -> AsyncIterator[Finding]:
    """What differs from the definitions, then what is wrong with what is there."""
    for one in differing:
        yield _differing("streams", one, "mesh doctor --apply creates it")
    standing = await bus.stream_states(wanted)
    ailing = [
        finding for name, state in standing.items() for finding in [*_replicas(name, state), *_room(name, state, names)]
    ]
    for finding in ailing:
        yield finding
    if not differing and not ailing:
        yield Finding("streams", "ok", "streams, buckets and consumers are as they must be")


async def pools(bus: Bus, names: Subjects, settings: Settings, registry: Registry) -> list[Finding]:
    """The consumers of every app's pool, where the app has registered."""
    runs = {run_consumer(names, app.pool, ack_wait_s=settings.ack_wait_s) for app in registry.apps}
    calls = {call_consumer(names, app.pool, ack_wait_s=settings.ack_wait_s) for app in registry.apps if app.tools}
    found = []
    for consumers, service in ((runs, "executor"), (calls, "tool-runner")):
        wanted = Definitions(streams=(), buckets=(), consumers=tuple(sorted(consumers, key=lambda one: one.name)))
        cure = f"the first {service} of that app creates it: mesh service {service} --app …"
        found += [_differing("pools", one, cure) for one in await bus.inspect(wanted)]
    return found


def _differing(what: str, one: Difference, to_create: str) -> Finding:
    if one.missing:
        return Finding(what, "problem", str(one), to_create)
    if one.field == "ack_wait":
        told = f"{one.what}: ack_wait is {one.there}, MESH_ACK_WAIT_S here says {one.wanted}"
        cure = (
            "set it to the same everywhere, here too; a service writes its own into its consumers when it starts, "
            "the doctor never does"
        )
        return Finding(what, "problem", told, cure)
    if one.what.startswith("consumer"):
        return Finding(what, "problem", str(one), "restart a service that takes from it, which puts it right")
    if one.fixable:
        return Finding(what, "problem", str(one), "mesh doctor --apply changes it, which loses nothing")
    cure = "this cannot be changed without loss: move the stream away (nats stream), or use another MESH_PREFIX"
    return Finding(what, "problem", str(one), cure)


def _replicas(name: str, state: StreamState) -> list[Finding]:
    found = []
    if not state.led:
        cure = "two of three servers must be at work; the mesh waits until they are"
        found.append(Finding("streams", "problem", f"{name} has no leader", cure))
    cure = "start that server; if it is gone for good, remove it: nats server cluster peer-remove"
    found += [
        Finding("streams", "problem", f"{name}: its replica on {one.server} is away", cure)
        for one in state.replicas
        if one.silent_s > AWAY_S
    ]
    found += [
        Finding("streams", "note", f"{name}: its replica on {one.server} is {one.lag} messages behind, and catches up")
        for one in state.replicas
        if one.silent_s <= AWAY_S and not one.current
    ]
    return found


def _room(name: str, state: StreamState, names: Subjects) -> list[Finding]:
    if name == names.deltas:  # a cache, which may be full
        return []
    if name == names.work and state.max_bytes > 0:
        told = f"{name} has a limit of {state.max_bytes} bytes, at which it drops the oldest submits and signals"
        cure = f"nats stream edit {name} --max-bytes=-1; bound the account or the server instead, which refuse new ones"
        return [Finding("streams", "problem", told, cure)]
    found = []
    if 0 < state.max_bytes * FULL < state.bytes:
        share = f"{state.bytes / state.max_bytes:.0%}"
        cure = f"purge what nobody needs (MESH_KEEP_S), or raise its limit: nats stream edit {name} --max-bytes"
        found.append(Finding("streams", "problem", f"{name} is {share} full; it refuses appends at 100%", cure))
    if name == names.tasks and state.subjects > MANY_LOGS:
        cure = "let ended tasks be purged: MESH_KEEP_S"
        told = f"{state.subjects:,} task logs are kept; each costs the server up to half a kilobyte of memory"
        found.append(Finding("streams", "note", told, cure))
    return found
