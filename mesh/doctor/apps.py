"""The apps: whether somebody is at work for their agents and tools."""

from __future__ import annotations

from mesh.doctor.finding import Finding
from mesh.registry import Registry
from schemas.agent import AppRecord


def look(registry: Registry) -> list[Finding]:
    """One finding per app, and one more where its tools have no runner."""
    if not registry.apps:
        return [Finding("app", "note", "no app has registered", "mesh service executor --app …, or mesh dev APP")]
    return [finding for app in registry.apps for finding in _app(app, registry)]


def _app(app: AppRecord, registry: Registry) -> list[Finding]:
    agents = ", ".join(agent.name for agent in app.agents) or "no agent"
    workers = len(registry.workers_of(app.pool))
    if not workers:
        return [
            Finding(
                "app", "problem", f"{app.app}: nobody is at work for {agents}; their tasks are accepted and wait",
                f"mesh service executor --app …, or forget the app: mesh agent rm {app.app}",
            )
        ]  # fmt: skip
    found = [Finding("app", "ok", f"{app.app} {app.version}: {workers} at work for {agents}")]
    if app.tools and not any(one.pool == app.pool for one in registry.of_service("tool-runner")):
        tools = ", ".join(tool.name for tool in app.tools)
        told = f"{app.app}: nobody makes the calls of {tools}; tasks that call them wait"
        found.append(Finding("app", "problem", told, "mesh service tool-runner --app …"))
    return found
