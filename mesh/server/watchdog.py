"""What ends the server when its parent is killed.

A process that is killed runs no cleanup, and `PR_SET_PDEATHSIG` exists on Linux only and follows the thread that forked
instead of the process. So a shell of a few lines reads from a pipe whose write end this process alone keeps: end of
file means that the parent is gone.

The server's pid comes through the same pipe, from the launcher: a shell that writes its own pid and then becomes the
server. Until it has written, it holds the pipe open itself, so there is no moment at which a killed parent leaves a
server that the watchdog does not know.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SHELL = "/bin/sh"

WATCH = """
read -r pid || exit 0
read -r gone
kill -s TERM -- "-$pid" 2>/dev/null || exit 0
sleep 1
kill -s KILL -- "-$pid" 2>/dev/null
"""

# `exec` once for the redirection alone: in one command with the server, a shell might keep a copy of the pipe open.
LAUNCH = """
echo "$$"
exec >/dev/null
exec "$@"
"""


class Watchdog:
    """A shell that ends the process group of the server once this process is gone."""

    def __init__(self, store: Path) -> None:
        read_end, self.pipe = os.pipe()
        try:
            # A session of its own: Ctrl-C goes to the whole foreground group, and the parent drains first.
            self._shell = subprocess.Popen(
                [SHELL, "-c", WATCH, "mesh-watchdog", str(store)],
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            os.close(self.pipe)
            raise
        finally:
            os.close(read_end)

    def launcher(self, command: list[str]) -> list[str]:
        """The command that tells the watchdog its pid on stdout, which must be `pipe`, and becomes `command`."""
        return [SHELL, "-c", LAUNCH, "mesh-launcher", *command]

    def end(self) -> None:
        """Dismiss it, once the server has ended; it must not outlive the pid it knows."""
        if self._shell.returncode is None:
            # SIGKILL ends a shell that waits in `read` at once, so the wait does not block the loop.
            self._shell.kill()
            self._shell.wait()
            os.close(self.pipe)
