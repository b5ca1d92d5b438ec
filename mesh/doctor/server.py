"""The servers: whether they can hold a mesh, and what they say of themselves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from mesh.bus import Bus, without_secrets
from mesh.census import census
from mesh.doctor.finding import Finding
from mesh.subjects import Subjects

MIN_VERSION: Final = (2, 12)
FAR_S: Final = 1.0
_NS: Final = 1_000_000_000


class _Identity(Struct):
    name: str
    ver: str = ""


class _Config(Struct):
    store_dir: str = ""
    max_storage: int = 0
    sync_interval: int = 0
    sync_always: bool = False


class _Stats(Struct):
    storage: int = 0


class _JetStream(Struct):
    config: _Config | None = None
    stats: _Stats | None = None


class _Data(Struct):
    jetstream: _JetStream


class _Varz(Struct):
    server: _Identity
    data: _Data


class Server(Struct, frozen=True, kw_only=True):
    """One server of a cluster that keeps streams; sizes in bytes.

    It flushes to the disk every `flush_s` seconds, or with each write if that is 0.
    """

    name: str
    version: str
    store: str
    used: int
    limit: int
    flush_s: float


async def look(bus: Bus) -> Finding:
    """The server that answers here; a problem with it hides everything else."""
    return judge(await bus.server_info(), bus.url)


def judge(info: Mapping[str, Any], url: str) -> Finding:
    """The same, from what a server says of itself."""
    version = str(info["version"])
    shown = f"nats-server {version} at {without_secrets(url)}"
    if tuple(map(int, version.split(".")[:2])) < MIN_VERSION:
        needed = ".".join(map(str, MIN_VERSION))
        return Finding("server", "problem", f"{shown} is too old", f"run nats-server {needed} or newer")
    if not info["jetstream"]:
        cure = "start it with -js, or enable JetStream for this account"
        return Finding("server", "problem", f"{shown} has no JetStream", cure)
    if not info["led"]:
        cure = "most servers of the cluster must be at work and reach one another; the mesh waits until they do"
        return Finding("server", "problem", f"{shown}: its cluster has no leader", cure)
    return Finding("server", "ok", f"{shown}, JetStream is on")


async def all_of(system: Bus) -> list[Server]:
    """Every server of the cluster that has JetStream, as the system account hears of them."""
    answers = await census(system, "$SYS.REQ.SERVER.PING.VARZ", _Varz)
    return sorted((_server(one) for one in answers if one.data.jetstream.config), key=lambda one: one.name)


async def clock(bus: Bus, names: Subjects) -> Finding:
    """How far this machine's clock is from the broker's."""
    before = time.time()
    theirs = await bus.server_time(names.work)
    return compare(before, theirs, time.time())


def compare(before: float, theirs: float, after: float) -> Finding:
    """What three looks at clocks say: at ours, at theirs, at ours again."""
    ahead_s = (before + after) / 2 - theirs
    # The answer was written at some moment in between, so half the round trip is not known.
    if abs(ahead_s) - (after - before) / 2 <= FAR_S:
        return Finding("clock", "ok", f"within {max(abs(ahead_s), 0.001):.3f} s of the broker's")
    which = "ahead of" if ahead_s > 0 else "behind"
    return Finding(
        "clock", "problem", f"this machine is {abs(ahead_s):.1f} s {which} the broker",
        "let NTP set both; deadlines and timers count by the broker, the times in a log by who wrote them",
    )  # fmt: skip


def _server(answer: _Varz) -> Server:
    config, stats = answer.data.jetstream.config or _Config(), answer.data.jetstream.stats or _Stats()
    return Server(
        name=answer.server.name, version=answer.server.ver, store=config.store_dir, used=stats.storage,
        limit=config.max_storage, flush_s=0.0 if config.sync_always else config.sync_interval / _NS,
    )  # fmt: skip
