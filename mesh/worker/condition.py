"""What a service says of itself besides how its queues stand."""

from __future__ import annotations

from msgspec import Struct

from mesh.worker.health import Health
from schemas.service import EndpointStats


class Condition(Struct, frozen=True, kw_only=True):
    """Its health, what else stands in its metadata, and what it answers itself."""

    health: Health = Health()
    metadata: dict[str, str] = {}
    endpoints: tuple[EndpointStats, ...] = ()
