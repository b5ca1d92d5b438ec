"""The session store: a view of the log in SQL, and what it answers; it also purges what is no longer kept."""

from __future__ import annotations

from mesh.service import Service, ServiceConfig


def service(config: ServiceConfig) -> Service:
    """Makes the service; the entry point of the group `mesh.services`."""
    from services.session_store.process import SessionStoreService

    return SessionStoreService(config)
