"""What a worker process of a test is told."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from mesh.agents.app import Mesh
from mesh.errors import AppError
from mesh.settings import Settings

READY: Final = b"ready\n"
READY_WITH_TOOLS: Final = b"ready with tools\n"
Side = Literal["before", "after"]


class KillPoint(Struct, frozen=True, kw_only=True):
    """The worker sends itself `signal` before or after its write of that kind and number (from 1)."""

    kind: str
    number: int
    side: Side
    signal: int = signal.SIGKILL


class WorkerOrder(Struct, frozen=True, kw_only=True):
    """Which service to be; `app` is a target as the command line takes it, `trace` a file."""

    service: str
    url: str
    settings: Settings
    app: str = ""
    app_version: str = ""
    system_url: str = ""
    trace: str = ""
    kill: KillPoint | None = None


def target_of(app: Mesh | str) -> str:
    """What another process imports to get this app.

    Raises: AppError if it does not stand in a module of its own.
    """
    if isinstance(app, str):
        return app
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        for name, value in list(vars(module).items()) if file else ():
            if value is app and _defines(module.__name__, app):
                return f"{Path(str(file)).resolve()}:{name}"
    raise AppError(f"app '{app.name}' stands in no module", hint="define it at the top level of a file of its own")


def _defines(module: str, app: Mesh) -> bool:
    functions = [agent.handler for agent in app.agents.values()] + [tool.function for tool in app.tools.values()]
    return any(function.__module__ == module for function in functions)
