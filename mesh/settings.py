"""What an operator may set, each by one environment variable `MESH_<NAME>`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from mesh.durability import PROFILES, Profile, ProfileName
from mesh.errors import InvalidInput
from schemas.ids import is_name

_MAY_BE_ZERO: Final = frozenset({"unknown_agent_grace_s", "drain_s", "keep_s"})


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of one mesh; every process of a mesh must see the same.

    `profile` is what the mesh must survive; `ack_wait_s` is how long a silent worker keeps a task; `slots` how many
    tasks one executor runs at once.
    """

    prefix: str = "mesh"
    profile: ProfileName = "dev"
    ack_wait_s: float = 3.0
    max_attempts: int = 3
    unknown_agent_grace_s: float = 2.0
    cancel_grace_s: float = 10.0
    reconcile_s: float = 300.0
    drain_s: float = 10.0
    slots: int = 100
    router_slots: int = 500
    keep_s: float = 0.0

    def __post_init__(self) -> None:
        if not is_name(self.prefix):
            raise InvalidInput(
                f"the prefix {self.prefix!r} is no single token", hint="it is 1 to 63 of a-z 0-9 _ -, no dot"
            )
        if self.profile not in PROFILES:
            raise InvalidInput(f"there is no profile {self.profile!r}", hint=f"there are {', '.join(PROFILES)}")
        for field in msgspec.structs.fields(Settings):
            value = getattr(self, field.name)
            least = 0 if field.name in _MAY_BE_ZERO else math.ulp(0.0)
            if isinstance(value, int | float) and not least <= value < math.inf:
                raise InvalidInput(f"{field.name} must be a positive number, not {value}")

    @property
    def durability(self) -> Profile:
        """What its profile asks of the broker."""
        return PROFILES[self.profile]

    @property
    def tick_s(self) -> float:
        """How often a held delivery is kept alive."""
        return min(1.0, self.ack_wait_s / 3)

    @property
    def patience_s(self) -> float:
        """How long one worker waits for the answer of another."""
        return self.ack_wait_s * 2 / 3


def settings_from(environ: Mapping[str, str]) -> Settings:
    """The settings that these variables say; raises InvalidInput with the variable's name."""
    given = {}
    for field in msgspec.structs.fields(Settings):
        variable = f"MESH_{field.name.upper()}"
        if variable in environ:
            try:
                given[field.name] = msgspec.convert(environ[variable], field.type, strict=False)
            except msgspec.ValidationError as error:
                raise InvalidInput(f"{variable}={environ[variable]!r} is no valid value: {error}") from error
    return Settings(**given)
