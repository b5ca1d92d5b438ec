"""The server as a process: spawned, watched, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

from .store import Store
from .watchdog import Watchdog

POLL_S = 0.001


class ServerProcess:
    """A running nats-server with its watchdog.

    It is a `subprocess.Popen` and not one of asyncio's: those belong to one loop, and on Python 3.11 cost a thread.
    Its end is seen without a thread or a signal handler, on asyncio and uvloop, Linux and macOS alike: the server
    inherits the write end of a pipe that nobody writes to, and end of file on the read end means that it and all it
    has started are gone.
    """

    def __init__(self, binary: Path, store: Store, lock_fd: int) -> None:
        self._watchdog = Watchdog(store.path)
        self._life, server_end = os.pipe()
        os.set_blocking(self._life, False)
        command = [str(binary), "-c", str(store.config_path), "--ports_file_dir", str(store.ports_path)]
        try:
            with store.open_log() as log:
                self.log_start = log.tell()
                self._popen = subprocess.Popen(
                    self._watchdog.launcher(command),
                    stdin=subprocess.DEVNULL,
                    stdout=self._watchdog.pipe,
                    stderr=log,
                    pass_fds=(lock_fd, server_end),
                    cwd=store.path,
                    start_new_session=True,
                )
        except BaseException:
            os.close(self._life)
            self._watchdog.end()
            raise
        finally:
            os.close(server_end)
        self.pid = self._popen.pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal, or None while it runs.

        Only the pipe decides, and the process is not reaped before: when a wrapper script ends, the server it started
        may still be there, and can be signalled as long as the wrapper's pid is not given to another.
        """
        if self._popen.returncode is None and self._pipe_has_closed() and self._popen.poll() is not None:
            self._watchdog.end()
            os.close(self._life)
        return self._popen.returncode

    async def wait(self) -> int:
        """The exit code, once it has ended; any number of tasks may wait."""
        if self.poll() is None:
            await self._end_of_file()
        # The pipe closes a moment before the process can be reaped, and nothing tells of that one.
        while (code := self.poll()) is None:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        return code

    def send(self, number: signal.Signals) -> None:
        """Signal the server's process group, which also holds what a wrapper script has started."""
        if self.poll() is None:
            os.killpg(self.pid, number)

    async def end(self, patience_s: float) -> None:
        """Ask it to end, and kill it if it has not done so after `patience_s`."""
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(patience_s):
                await self.wait()
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        """End it with SIGKILL, and wait until it is gone."""
        self.send(signal.SIGKILL)
        await self.wait()

    def _pipe_has_closed(self) -> bool:
        try:
            return not os.read(self._life, 1)
        except BlockingIOError:
            return False

    async def _end_of_file(self) -> None:
        # Each waiter has a descriptor of its own: a loop takes only one callback per descriptor.
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        fd = os.dup(self._life)
        loop.add_reader(fd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(fd)
            os.close(fd)
