"""One service as a process of a test: `python -m mesh.testing.worker ORDER`, where ORDER is a `WorkerOrder` as JSON.

It says when it takes work, writes down what it sends, and kills itself exactly where it is told to. It ends when its
standard input does, so it cannot outlive the test.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from typing import Any

import msgspec

from mesh.agents.app import Mesh
from mesh.loader import load
from mesh.logs import configure
from mesh.runtime import Fleet, Interrupts, serve_until_signal
from mesh.runtime.loop import run_on_loop
from mesh.service import ServiceConfig
from mesh.testing.orders import READY, READY_WITH_TOOLS, KillPoint, WorkerOrder
from mesh.testing.trace import POINT, VARIABLE, Trace

_STDIN = 0
_PR_SET_PDEATHSIG = 1


class Tracer:
    """An observer that writes down what concerns tasks, and dies at its point.

    The subjects of a mesh's own bookkeeping (registry, presence) are left out: they come at times of their own.
    """

    def __init__(self, prefix: str, trace: Trace, kill: KillPoint | None) -> None:
        self._prefixes = (f"{prefix}.", f"$O.{prefix}_")
        self._trace = trace
        self._kill = kill
        self._counts: dict[tuple[str, str], int] = {}

    def before(self, kind: str, subject: str) -> None:
        self._see("before", kind, subject)

    def after(self, kind: str, subject: str) -> None:
        self._see("after", kind, subject)

    def _see(self, side: str, kind: str, subject: str) -> None:
        if not subject.startswith(self._prefixes):
            return
        number = self._counts[kind, side] = self._counts.get((kind, side), 0) + 1
        self._trace.write(kind, subject, side=side)
        if self._kill and (self._kill.kind, self._kill.side, self._kill.number) == (kind, side, number):
            self._trace.write(POINT, subject, side=side)
            os.kill(os.getpid(), self._kill.signal)


async def serve(order: WorkerOrder) -> None:
    """Serves until a signal; SIGTERM drains."""
    asyncio.get_running_loop().add_reader(_STDIN, _leave_with_parent)
    app = load(order.app, Mesh) if order.app else None
    options: dict[str, Any] = {}
    if order.trace:
        options["observer"] = Tracer(order.settings.prefix, Trace(order.trace), order.kill)
    config = ServiceConfig(
        url=order.url,
        settings=order.settings,
        app=app,
        app_version=order.app_version,
        system_url=order.system_url,
        **options,
    )
    async with Interrupts() as interrupts:
        fleet = Fleet((order.service,), config)
        await serve_until_signal(
            fleet, interrupts, drain_s=order.settings.drain_s, say=_say, started=lambda: _say_ready(app)
        )


def main() -> None:
    """The entry point."""
    _die_with_parent()
    order = msgspec.json.decode(sys.argv[1], type=WorkerOrder)
    if order.trace:
        os.environ[VARIABLE] = order.trace
    configure(os.environ, default="info")
    run_on_loop(serve(order))


def _leave_with_parent() -> None:
    if not os.read(_STDIN, 1024):
        os._exit(1)


def _die_with_parent() -> None:
    """Also while it is stopped, where end of file cannot reach it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _say_ready(app: Mesh | None) -> None:
    os.write(1, READY_WITH_TOOLS if app and app.tools else READY)


if __name__ == "__main__":
    main()
