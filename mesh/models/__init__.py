"""Models: one protocol, a scripted one, every provider behind one adapter, and our own retries.

Nothing here imports a provider's code; `Models` does when the first request for a provider comes.
"""

from mesh.models.api import (
    Endpoint,
    Model,
    ModelAnswer,
    ModelDelta,
    ModelEvent,
    ModelRequest,
    ModelRetry,
    OutputSpec,
    ToolSpec,
)
from mesh.models.output import correction, output_of, output_spec, read_output
from mesh.models.resolve import Models, Scripts
from mesh.models.retrying import Retries, Retrying
from mesh.models.schema import object_schema
from mesh.models.scripted import Call, Reply, ScriptedModel
from mesh.models.usage import total_usage

__all__ = [
    "Call",
    "Endpoint",
    "Model",
    "ModelAnswer",
    "ModelDelta",
    "ModelEvent",
    "ModelRequest",
    "ModelRetry",
    "Models",
    "OutputSpec",
    "Reply",
    "Retries",
    "Retrying",
    "ScriptedModel",
    "Scripts",
    "ToolSpec",
    "correction",
    "object_schema",
    "output_of",
    "output_spec",
    "read_output",
    "total_usage",
]
