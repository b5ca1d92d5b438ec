"""The app that a command serves."""

from __future__ import annotations

import os
from typing import Any

from msgspec import Struct

from mesh.agents.app import Mesh
from mesh.errors import AppError


class Served(Struct, frozen=True):
    """An app and its version; `target` is None for the built-in demo."""

    app: Mesh
    version: str
    target: str | None

    @property
    def agents(self) -> str:
        """The names of its agents."""
        return ", ".join(sorted(self.app.agents)) or "none"

    @property
    def example(self) -> str:
        """The arguments of a `mesh run` to begin with, of an agent that takes text if there is one."""
        if self.target is None:
            return 'assistant "how many days until christmas"'
        texts = [f'{name} "otters"' for name, agent in self.app.agents.items() if agent.input_type in (str, Any)]
        return texts[0] if texts else f"{next(iter(self.app.agents))} INPUT"


def demo_in_words() -> str:
    """What the built-in demo needs."""
    model = os.environ.get("MESH_MODEL")
    return f"its assistant asks {model}" if model else "offline: its model is scripted, and needs no key"


def load_served(target: str | None) -> Served:
    """Imports the app that `target` names, or takes the demo.

    Raises: AppError with what to change.
    """
    if target is None:
        from mesh.demo import app

        return Served(app, app.version or "", None)
    from mesh.loader import load, source_digest, sources

    loaded = load(target, Mesh)
    if not loaded.agents:
        raise AppError(f"app '{loaded.name}' has no agents", hint="decorate one with @app.agent")
    return Served(loaded, loaded.version or source_digest(*sources(target)), target)
