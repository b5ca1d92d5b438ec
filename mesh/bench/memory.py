"""Memory that processes use."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc/self/statm")


def rss_mb(pid: int) -> float:
    """What of a process is in memory, in megabytes."""
    if _PROC.exists():
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    shown = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    return int(shown) * 1024 / 1e6
