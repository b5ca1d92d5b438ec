"""The router: admission, task signals, timers, reconciliation."""

from __future__ import annotations

from mesh.service import Service, ServiceConfig


def service(config: ServiceConfig) -> Service:
    """Makes the service; the entry point of the group `mesh.services`."""
    from services.router.process import RouterService

    return RouterService(config)
