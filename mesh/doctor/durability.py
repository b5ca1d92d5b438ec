"""Whether the servers do what the durability profile promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mesh.doctor.finding import Finding
from mesh.doctor.server import Server
from mesh.durability import Profile

HOW_TO_SEE: Final = "set MESH_SYSTEM_URL=nats://user:password@host:4222 with a user of the system account"


def look(profile: Profile, servers: Sequence[Server]) -> list[Finding]:
    """One finding per thing that is not as promised, or that it is; `servers` is empty where nobody may ask them."""
    promise = f"profile '{profile.name}': survives {profile.survives}"
    if not servers:
        if not profile.flushed:
            return [Finding("durability", "ok", promise)]
        hidden = "whether the servers flush each write cannot be seen from this account"
        return [Finding("durability", "note", f"{promise}; {hidden}", HOW_TO_SEE)]
    return [*_too_few(profile, servers), *_unflushed(profile, servers)] or [Finding("durability", "ok", promise)]


def _too_few(profile: Profile, servers: Sequence[Server]) -> list[Finding]:
    if len(servers) >= profile.replicas:
        return []
    return [
        Finding(
            "durability", "problem",
            f"profile '{profile.name}' keeps {profile.replicas} replicas; servers at work: {len(servers)}",
            "start the others (deploy/nats-cluster.conf), or set MESH_PROFILE=single everywhere",
        )
    ]  # fmt: skip


def _unflushed(profile: Profile, servers: Sequence[Server]) -> list[Finding]:
    if not profile.flushed:
        return []
    return [
        Finding(
            "durability", "problem",
            f"profile '{profile.name}' needs every write flushed; server {one.name} flushes every {one.flush_s:g} s",
            "write `sync_interval: always` into its jetstream block and restart it",
        )
        for one in servers
        if one.flush_s
    ]  # fmt: skip
