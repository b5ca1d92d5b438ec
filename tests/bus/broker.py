"""A real nats-server for these tests, and how they wait."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from mesh.bus import Bus

_BINARY = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")


class Broker:
    """A nats-server process on a store that outlives it."""

    def __init__(self, folder: Path, config: str = "") -> None:
        self.folder = folder
        self.config = config
        self.port = -1
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert _BINARY, "no nats-server"
        file = self.folder / "server.conf"
        file.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self.folder / "js"}" }}\n{self.config}\n'
        )
        self.process = subprocess.Popen(
            [_BINARY, "-c", file, "--ports_file_dir", self.folder, "-l", self.folder / "log"]
        )
        ports = self.folder / f"nats-server_{self.process.pid}.ports"
        while not ports.exists() or not ports.read_text():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.002)
        self.port = int(json.loads(ports.read_text())["nats"][0].rpartition(":")[2])

    def freeze(self) -> None:
        """Stop the process, and return when it has stopped."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; pytest's own limit ends what never does."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


Connect = Callable[..., Awaitable[Bus]]
