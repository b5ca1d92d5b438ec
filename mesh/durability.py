"""Durability profiles: what a mesh survives, and what its broker must do for that."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from msgspec import Struct

ProfileName = Literal["dev", "single", "cluster"]


class Profile(Struct, frozen=True, kw_only=True):
    """One level of durability.

    Every stream, bucket and consumer has `replicas` copies. With `flushed` the server writes through to the disk before
    it acknowledges (`sync_interval: always`); otherwise what it acknowledged within the last two minutes may be in the
    memory of the operating system only.
    """

    name: ProfileName
    replicas: int
    flushed: bool
    survives: str


PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        one.name: one
        for one in (
            Profile(name="dev", replicas=1, flushed=False, survives="the death of any process"),
            Profile(name="single", replicas=1, flushed=True, survives="a loss of power as well"),
            Profile(name="cluster", replicas=3, flushed=True, survives="the loss of one server of three as well"),
        )
    }
)
