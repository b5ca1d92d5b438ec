"""The session store as its callers see it, and archives of logs."""

from mesh.sessions.asking import Page, SessionStore, Talk

__all__ = ["Page", "SessionStore", "Talk"]
