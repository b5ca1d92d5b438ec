"""The executor: claims tasks and runs their handlers."""

from __future__ import annotations

from mesh.service import Service, ServiceConfig


def service(config: ServiceConfig) -> Service:
    """Makes the service; the entry point of the group `mesh.services`."""
    from services.executor.process import ExecutorService

    return ExecutorService(config)
