"""An event-driven mesh of agents on NATS: what users import.

Names are loaded when they are first used, so that a command that only talks to the broker stays quick.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if sys.version_info < (3, 11):  # noqa: UP036 - pip refuses to install it there, a checkout on the path does not
    raise ImportError("nats-agent-mesh needs Python 3.11 or newer; this is {}.{}".format(*sys.version_info))

if TYPE_CHECKING:
    from mesh.agents.app import Agent, Mesh
    from mesh.agents.artifacts import Artifact
    from mesh.agents.context import Context, TaskInfo
    from mesh.agents.model_step import Reply
    from mesh.agents.performing import current_step
    from mesh.agents.tool_context import ToolContext
    from mesh.client import Client, Result, Task
    from mesh.errors import (
        AppError,
        ArtifactDamaged,
        ArtifactMissing,
        BusUnavailable,
        CursorExpired,
        InvalidInput,
        LimitExceeded,
        MeshError,
        ModelNotConfigured,
        ModelRejected,
        ModelUnavailable,
        NotAMesh,
        OutcomeUnknown,
        OutputInvalid,
        PermissionDenied,
        ResultTimeout,
        SecretMissing,
        StepFailed,
        StorageFull,
        TaskCancelled,
        TooLarge,
        ToolFailed,
        UnknownTask,
    )
    from mesh.log.merge import TaskEvent, Text, TextDiscarded
    from schemas.error import Error
    from schemas.signal import Answer
    from schemas.task import Money, Usage

_HOMES = {
    "mesh.agents.app": ("Agent", "Mesh"),
    "mesh.agents.artifacts": ("Artifact",),
    "mesh.agents.context": ("Context", "TaskInfo"),
    "mesh.agents.model_step": ("Reply",),
    "mesh.agents.performing": ("current_step",),
    "mesh.agents.tool_context": ("ToolContext",),
    "mesh.client": ("Client", "Result", "Task"),
    "mesh.errors": (
        "AppError",
        "ArtifactDamaged",
        "ArtifactMissing",
        "BusUnavailable",
        "CursorExpired",
        "InvalidInput",
        "LimitExceeded",
        "MeshError",
        "ModelNotConfigured",
        "ModelRejected",
        "ModelUnavailable",
        "NotAMesh",
        "OutcomeUnknown",
        "OutputInvalid",
        "PermissionDenied",
        "ResultTimeout",
        "SecretMissing",
        "StepFailed",
        "StorageFull",
        "TaskCancelled",
        "TooLarge",
        "ToolFailed",
        "UnknownTask",
    ),
    "mesh.log.merge": ("TaskEvent", "Text", "TextDiscarded"),
    "schemas.error": ("Error",),
    "schemas.signal": ("Answer",),
    "schemas.task": ("Money", "Usage"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Agent",
    "Answer",
    "AppError",
    "Artifact",
    "ArtifactDamaged",
    "ArtifactMissing",
    "BusUnavailable",
    "Client",
    "Context",
    "CursorExpired",
    "Error",
    "InvalidInput",
    "LimitExceeded",
    "Mesh",
    "MeshError",
    "ModelNotConfigured",
    "ModelRejected",
    "ModelUnavailable",
    "Money",
    "NotAMesh",
    "OutcomeUnknown",
    "OutputInvalid",
    "PermissionDenied",
    "Reply",
    "Result",
    "ResultTimeout",
    "SecretMissing",
    "StepFailed",
    "StorageFull",
    "Task",
    "TaskCancelled",
    "TaskEvent",
    "TaskInfo",
    "Text",
    "TextDiscarded",
    "TooLarge",
    "ToolContext",
    "ToolFailed",
    "UnknownTask",
    "Usage",
    "current_step",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'mesh' has no attribute '{name}'")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
