"""CPU time that processes have used."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc/self/stat")


def cpu_s(pid: int) -> float:
    """User and system time of all threads of a process, to a hundredth of a second."""
    if _PROC.exists():
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    shown = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    total = 0.0
    for part in shown.strip().split(":"):
        total = total * 60 + float(part)
    return total


class CpuMeter:
    """What each of some processes uses from now on."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._before = {name: cpu_s(pid) for name, pid in pids.items()}

    def used_s(self) -> dict[str, float]:
        return {name: cpu_s(pid) - self._before[name] for name, pid in self._pids.items()}
