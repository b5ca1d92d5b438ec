"""The console script as a process, with or without a terminal."""

from __future__ import annotations

import codecs
import os
import pty
import re
import signal
import subprocess
import sysconfig
import threading
from pathlib import Path
from typing import Any

MESH = Path(sysconfig.get_path("scripts")) / "mesh"
PATIENCE_S = 30.0


class Command:
    """A running `mesh …`; what it writes is collected, and can be waited for."""

    def __init__(
        self, *arguments: str, cwd: Path, env: dict[str, str], terminal: bool = False, stdin: bytes = b""
    ) -> None:
        self._changed = threading.Condition()
        self._texts = {"out": "", "err": ""}
        self._terminal, theirs = pty.openpty() if terminal else (-1, -1)
        output = theirs if terminal else subprocess.PIPE
        self._process = subprocess.Popen(
            [MESH, *arguments], cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=output, stderr=output
        )
        if terminal:
            os.close(theirs)
            sources = {"out": self._terminal}
        else:
            sources = {"out": _fileno(self._process.stdout), "err": _fileno(self._process.stderr)}
        self._readers = [threading.Thread(target=self._read, args=source) for source in sources.items()]
        for reader in self._readers:
            reader.start()
        assert self._process.stdin is not None
        with self._process.stdin as pipe:
            pipe.write(stdin)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def out(self) -> str:
        return self._texts["out"]

    @property
    def err(self) -> str:
        return self._texts["err"]

    def until(self, pattern: str) -> re.Match[str]:
        """Wait until what it has written matches."""
        with self._changed:
            found = self._changed.wait_for(lambda: self._match(pattern), PATIENCE_S)
        assert found, f"never wrote {pattern!r}: {self.out}\n{self.err}"
        return found

    def signal(self, number: signal.Signals = signal.SIGINT) -> None:
        self._process.send_signal(number)

    def code(self) -> int:
        """Wait for its end."""
        code = self._process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return code

    def end(self) -> None:
        """Whatever it is doing."""
        if self._process.poll() is None:
            self._process.kill()
        self.code()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()
        if self._terminal >= 0:
            os.close(self._terminal)

    def _match(self, pattern: str) -> re.Match[str] | None:
        return re.search(pattern, self.out) or re.search(pattern, self.err)

    def _read(self, name: str, fd: int) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()
        while data := _read_some(fd):
            with self._changed:
                self._texts[name] += decoder.decode(data)
                self._changed.notify_all()


def _fileno(pipe: Any) -> int:
    number: int = pipe.fileno()
    return number


def _read_some(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # the other end of a terminal is gone
        return b""
