"""Real providers, by pydantic-ai's model layer: the only package that imports it.

Importing this takes most of a second, so `mesh.models.resolve` does it in a thread, when a provider is first needed.
"""

from mesh.models.provider.providers import Providers
from mesh.models.provider.warm_up import warm_up

__all__ = ["Providers", "warm_up"]
