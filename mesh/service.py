"""What a service is to the command that serves it.

Services are found by the entry-point group `mesh.services`, so that nothing here imports them.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from itertools import count
from typing import TYPE_CHECKING, Protocol

from mesh.bus import Observer
from mesh.clock import Clock, SystemClock
from mesh.errors import AppError
from mesh.settings import Settings
from mesh.subjects import Subjects
from schemas.instant import rfc3339

if TYPE_CHECKING:  # a command that only submits loads no models
    from mesh.agents.app import Mesh
    from mesh.models.api import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """Everything a service is made from; `app` only for those that serve one.

    `app_version` goes before the version that the app itself names. `system_url` is the broker's with a user of its
    system account, for fast takeover; without one there is none. `database` is the session store's, instead of the one
    that MESH_DATABASE names. `secrets` looks a secret up by name; `observer` is told of everything sent (the
    crash-point tests); `models` answers model steps instead of what the environment and the app's scripts give.
    """

    url: str
    settings: Settings = field(default_factory=Settings)
    app: Mesh | None = None
    app_version: str = ""
    system_url: str = ""
    database: str = ""
    secrets: Callable[[str], str | None] = os.environ.get
    observer: Observer | None = None
    models: Model | None = None

    @property
    def version(self) -> str:
        """The version of the app, the same for its registry record, its workers and its claims."""
        return self.app_version or (self.app and self.app.version) or "0"

    @property
    def names(self) -> Subjects:
        return Subjects(self.settings.prefix)


class Service(Protocol):
    """One service of a mesh, from start to drain."""

    name: str

    async def serve(self, started: Callable[[], None]) -> None:
        """Serves until stopped; calls `started` once it takes work."""
        ...

    def stop(self) -> None:
        """Takes nothing new; `serve` returns when what it holds is done."""
        ...

    def stop_now(self) -> None:
        """Hands back what it holds at once; `serve` returns."""
        ...

    def busy(self) -> list[str]:
        """The tasks it still works on."""
        ...


class ServiceFactory(Protocol):
    """What an entry point of the group `mesh.services` names."""

    def __call__(self, config: ServiceConfig) -> Service: ...


def services_of(app: Mesh) -> list[str]:
    """The services that serve an app, besides the routers of its mesh."""
    return ["tool-runner", "executor"] if app.tools else ["executor"]


def find_service(name: str) -> ServiceFactory:
    """The factory of a service; raises AppError with the names there are."""
    found = {point.name: point for point in entry_points(group="mesh.services")}
    if name not in found:
        raise AppError(f"there is no service '{name}'", hint=f"services are: {', '.join(sorted(found))}")
    factory: ServiceFactory = found[name].load()
    return factory


class Stamp:
    """Who writes: role and worker name, with a fresh nonce and the time for each commit."""

    def __init__(self, role: str, worker: str, clock: Clock | None = None) -> None:
        self.by = f"{role}/{worker}"
        self._clock = clock or SystemClock()
        # Random once and counted on: asking the system for each would be one fiftieth of a commit's time.
        self._own = secrets.token_hex(6)
        self._count = count()

    def stamp(self) -> tuple[str, str]:
        return f"{self._own}{next(self._count):x}", rfc3339(self._clock.now())


def worker_name(service: str) -> str:
    """A name for this process's part as `service`, unique over time."""
    return f"{service}-{os.getpid()}-{secrets.token_hex(3)}"
