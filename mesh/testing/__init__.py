"""The test kit: for the tests of agents, and for those of the mesh itself.

    run_local      calls a handler without a broker
    LocalMesh      a whole mesh in this process, over a real broker of its own or one that tests share
    crash_points   runs a task once for each of its writes, kills the worker there, and looks at what comes
    Processes      services as processes that can be killed, frozen and drained

`mesh.testing.fixtures` holds pytest fixtures. Nothing here imports pytest but that module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mesh.log.check import check_log
    from mesh.log.reading import read_log
    from mesh.testing.clock import FakeClock
    from mesh.testing.crashes import CrashPointsFailed, CrashReport, crash_points, freeze_points
    from mesh.testing.local_mesh import LocalMesh
    from mesh.testing.local_run import LocalResult, run_local
    from mesh.testing.logs import assert_invariants, assert_tail, show_log
    from mesh.testing.processes import Processes, WorkerProcess
    from mesh.testing.trace import note_effect
    from mesh.testing.waiting import eventually

_HOMES = {
    "mesh.log.check": ("check_log",),
    "mesh.log.reading": ("read_log",),
    "mesh.testing.clock": ("FakeClock",),
    "mesh.testing.crashes": ("CrashPointsFailed", "CrashReport", "crash_points", "freeze_points"),
    "mesh.testing.local_mesh": ("LocalMesh",),
    "mesh.testing.local_run": ("LocalResult", "run_local"),
    "mesh.testing.logs": (
        "assert_invariants",
        "assert_tail",
        "show_log",
    ),
    "mesh.testing.processes": (
        "Processes",
        "WorkerProcess",
    ),
    "mesh.testing.trace": ("note_effect",),
    "mesh.testing.waiting": ("eventually",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "CrashPointsFailed",
    "CrashReport",
    "FakeClock",
    "LocalMesh",
    "LocalResult",
    "Processes",
    "WorkerProcess",
    "assert_invariants",
    "assert_tail",
    "check_log",
    "crash_points",
    "eventually",
    "freeze_points",
    "note_effect",
    "read_log",
    "run_local",
    "show_log",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'mesh.testing' has no attribute '{name}'")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
