"""A program of two processes that do not end when they are asked to: `python family.py FILE` writes their ids there."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.fork()
    with Path(sys.argv[1]).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(600)
