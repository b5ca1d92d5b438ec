"""How much room is left."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from mesh.bus import Bus
from mesh.doctor.durability import HOW_TO_SEE
from mesh.doctor.finding import Finding, State
from mesh.doctor.server import Server

SCARCE: Final = 0.1
CURE: Final = "free space or raise the limit; until then appends are refused and all work waits"


async def look(bus: Bus, servers: Sequence[Server], *, here: bool) -> Finding:
    """The server that is fullest; with `here` the disk under its folder is looked at too."""
    account: dict[str, Any] = (await bus.server_info())["account"] or {}
    used, limit = int(account.get("storage", 0)), int(account.get("limits", {}).get("max_storage", -1))
    rooms = [_Room("this account", used, limit)] if limit > 0 else []
    rooms += [_Room(f"server {one.name}", one.used, one.limit) for one in servers]
    if here:
        rooms += [room for one in servers for room in _disks(Path(one.store))]
    if not rooms:
        return Finding("disk", "note", f"{_size(used)} are kept; how much is free cannot be seen from here", HOW_TO_SEE)
    fullest = min(rooms, key=lambda room: room.free / room.limit)
    state: State = "problem" if fullest.free < SCARCE * fullest.limit else "ok"
    message = f"{fullest.name}: {_size(fullest.free)} of {_size(fullest.limit)} are free"
    return Finding("disk", state, message, CURE if state == "problem" else "")


class _Room:
    def __init__(self, name: str, used: int, limit: int) -> None:
        self.name = name
        self.limit = max(limit, 1)
        self.free = max(limit - used, 0)


def _disks(folder: Path) -> list[_Room]:
    if not folder.is_dir():
        return []
    usage = shutil.disk_usage(folder)
    return [_Room(f"the disk under {folder}", usage.total - usage.free, usage.total)]


def _size(count: int) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1024:.0f} KiB"
