"""What a process of the benchmark is told."""

from __future__ import annotations

from msgspec import Struct


class Order(Struct, frozen=True):
    """Which service to be; with a `system_url` a router hears of closed connections."""

    service: str
    url: str
    durability: str
    system_url: str = ""
    database: str = ""
