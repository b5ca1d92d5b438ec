"""The test kit: for the tests of agents, and for those of the mesh itself.

    run_local      calls a handler without a broker
    LocalMesh      a whole mesh in this process, over a real broker of its own or one that tests share
    crash_points   runs a task once for each of its writes, kills the worker exactly there, and looks at what became of it
    Processes      services as processes that can be killed, frozen and drained

`mesh.testing.fixtures` holds pytest fixtures. Nothing here imports pytest but that module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mesh.testing.clock import FakeClock
    from mesh.testing.local_mesh import LocalMesh
    from mesh.testing.waiting import eventually

_HOMES = {
    "mesh.testing.clock": ("FakeClock",),
    "mesh.testing.local_mesh": ("LocalMesh",),
    "mesh.testing.waiting": ("eventually",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["FakeClock", "LocalMesh", "eventually"]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'mesh.testing' has no attribute '{name}'")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
