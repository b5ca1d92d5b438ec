"""The order in which things are looked at: what the rest stands on comes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

from mesh.bus import Bus
from mesh.doctor import apps, disk, durability, server, streams, work
from mesh.doctor.finding import Finding
from mesh.errors import StreamMismatch
from mesh.registry import read_registry
from mesh.settings import Settings
from mesh.streams import Definitions, definitions
from mesh.subjects import Subjects


async def examine(
    bus: Bus, settings: Settings, *, apply: bool, system: Bus | None = None, here: bool = False
) -> AsyncIterator[Finding]:
    """One finding after the other; with `apply`, what is missing is created first, and what loses nothing mended.

    A consumer that is there is left as it is: it holds the setting of the services, and the doctor's may be another.

    `system` is a connection to the system account, which alone knows how the servers are configured; `here` says that
    the server's folders are those of this machine.

    Raises: BusUnavailable.
    """
    found = await server.look(bus)
    yield found
    if found.state == "problem":
        return
    names = Subjects(settings.prefix)
    servers = await server.all_of(system) if system else []
    for found in [*durability.look(settings.durability, servers), await disk.look(bus, servers, here=here)]:
        yield found
    wanted = definitions(names, ack_wait_s=settings.ack_wait_s, replicas=settings.durability.replicas)
    if apply:
        yield await _applied(bus, wanted)
    if not await bus.has_mesh(names):
        yield Finding(
            "streams", "problem", f"there is no mesh '{settings.prefix}' on this server",
            "start a service, or create the streams now: mesh doctor --apply",
        )  # fmt: skip
        return
    yield await server.clock(bus, names)
    differing = await bus.inspect(wanted)
    async for found in streams.look(bus, names, wanted, differing):
        yield found
    # Nothing else can be asked of a mesh with holes; deltas are a cache.
    if not any(one.missing and one.what != f"stream {names.deltas}" for one in differing):
        async for found in _services(bus, names, settings):
            yield found


async def _services(bus: Bus, names: Subjects, settings: Settings) -> AsyncIterator[Finding]:
    registry = await read_registry(bus, names)
    for finding in await streams.pools(bus, names, settings, registry):
        yield finding
    for finding in [*await work.look(bus, names, settings, registry), *apps.look(registry)]:
        yield finding
    async for finding in _dead_letters(bus, names):
        yield finding


async def _applied(bus: Bus, wanted: Definitions) -> Finding:
    try:
        done = await bus.ensure(wanted, tune=False)
    except StreamMismatch as error:
        return Finding("apply", "problem", error.message, error.hint or "")
    return Finding("apply", "ok", "; ".join(done) or "nothing was to be done")


async def _dead_letters(bus: Bus, names: Subjects) -> AsyncIterator[Finding]:
    kinds: Counter[str] = Counter()
    for subject, count in (await bus.counts(names.dead_letters, names.dead("*", ">"))).items():
        kinds[subject.split(".")[2]] += count
    for kind, count in sorted(kinds.items()):
        cure = "mesh dead ls says why; once the reason is gone, mesh dead redrive sends them again"
        yield Finding("dead letters", "note", f"{kind}: {count}", cure)
    if not kinds:
        yield Finding("dead letters", "ok", "none")
