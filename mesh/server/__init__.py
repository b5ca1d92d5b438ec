"""A real nats-server that lives and dies with this process.

`mesh dev`, `mesh run` and the tests start it; everything else connects to whatever server it is told. What stands in a
store folder is described in `store`, how a killed parent leaves no orphan in `watchdog`.
"""

from __future__ import annotations

from .binary import find_binary
from .embedded import EmbeddedServer
from .store import ServerRecord, read_server_json

__all__ = ["EmbeddedServer", "ServerRecord", "find_binary", "read_server_json"]
