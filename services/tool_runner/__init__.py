"""The tool runner: makes tool calls, each fenced in the log of its task."""

from __future__ import annotations

from mesh.service import Service, ServiceConfig


def service(config: ServiceConfig) -> Service:
    """Makes the service; the entry point of the group `mesh.services`."""
    from services.tool_runner.process import ToolRunnerService

    return ToolRunnerService(config)
