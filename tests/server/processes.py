"""Asking the system which processes there are."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 20.0


async def eventually(holds: Callable[[], bool]) -> None:
    """Return as soon as `holds()` does; fail when it does not for a long time."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def processes_of(store: Path) -> set[int]:
    """The server and the watchdog of a store: living processes that name it on their command line."""
    return {pid for pid, command in _processes() if str(store) in command}


def _processes() -> list[tuple[int, str]]:
    if Path("/proc/self/cmdline").exists():
        return [found for entry in Path("/proc").glob("[0-9]*") if (found := _read(entry)) is not None]
    listed = subprocess.run(["/bin/ps", "-A", "-ww", "-o", "pid=,command="], capture_output=True, text=True, check=True)
    return [
        (int(pid), command) for pid, _, command in (line.strip().partition(" ") for line in listed.stdout.splitlines())
    ]


def _read(entry: Path) -> tuple[int, str] | None:
    try:
        command = (entry / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(entry.name), command.decode(errors="replace")
