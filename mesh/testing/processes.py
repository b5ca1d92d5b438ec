"""Services as processes of their own, which a test may kill, freeze and drain."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final, Self

import msgspec

from mesh.agents.app import Mesh
from mesh.errors import AppError, ServerError
from mesh.settings import Settings
from mesh.testing.orders import READY, READY_WITH_TOOLS, KillPoint, WorkerOrder, target_of
from mesh.testing.trace import TraceLine, read_trace

START_S: Final = 30.0
MAX_LINES_SHOWN: Final = 20
_APPLESS: Final = frozenset({"router", "session-store"})


class WorkerProcess:
    """One service; ended with its `Processes` at the latest.

    `has_tools` says, once it is ready, whether its app has any.
    """

    def __init__(self, service: str, process: asyncio.subprocess.Process, log_path: Path) -> None:
        self.service = service
        self.log_path = log_path
        self.has_tools = False
        self._process = process

    def __repr__(self) -> str:
        return f"<{self.service} {self.pid}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def ready(self, timeout_s: float = START_S) -> None:
        """Returns once it takes work; raises ServerError with its own words if it ends before."""
        assert self._process.stdout
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            line = b""
        self.has_tools = line == READY_WITH_TOOLS
        if line not in (READY, READY_WITH_TOOLS):
            raise ServerError(f"the {self.service} did not begin to serve; it said:\n{self.said()}")

    async def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        self._signal(signal.SIGKILL)
        await self.wait()

    async def drain(self) -> int:
        """SIGTERM, and waits until it has left; its exit code."""
        self._signal(signal.SIGTERM)
        return await self.wait()

    def freeze(self) -> None:
        """SIGSTOP: it stands still and does not know it."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on as if no time had passed."""
        self._signal(signal.SIGCONT)

    async def wait(self) -> int:
        """Its exit code, negative for a signal, once it has ended."""
        return await self._process.wait()

    def said(self) -> str:
        """The last lines of its own log."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-MAX_LINES_SHOWN:])

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            self._process.send_signal(number)


class Processes:
    """Starts services of one mesh as processes; when the block ends, none is left.

    `app` is an app at the top level of a module, or its target as the command line takes it. All processes write down
    what they do in `trace`, if that is given; with the `system_url` of the server routers hear of closed connections.

        async with Processes(server.url, app) as processes:
            executor = await processes.start("executor")
            await executor.kill()
    """

    def __init__(
        self,
        url: str,
        app: Mesh | str | None = None,
        *,
        settings: Settings | None = None,
        trace: Path | None = None,
        system_url: str = "",
    ) -> None:
        self._url = url
        self._system_url = system_url
        self._app = target_of(app) if app is not None else ""
        self._settings = settings or Settings()
        self._trace = trace
        self._folder = tempfile.TemporaryDirectory(prefix="mesh-processes-", ignore_cleanup_errors=True)
        self._all: list[WorkerProcess] = []

    @property
    def running(self) -> list[WorkerProcess]:
        return [one for one in self._all if one.running]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for one in self.running:
            await one.kill()
        self._folder.cleanup()

    async def start(
        self, service: str, *, kill: KillPoint | None = None, app_version: str = "", ready: bool = True
    ) -> WorkerProcess:
        """Starts a `router`, an `executor`, a `tool-runner` or a `session-store`; returns when it takes work.

        With `ready` False it returns at once: for a broker that is away, and for many at a time.
        """
        if service not in _APPLESS and not self._app:
            raise AppError(f"service '{service}' needs an app", hint="Processes(url, app)")
        order = WorkerOrder(
            service=service, url=self._url, settings=self._settings, app="" if service in _APPLESS else self._app,
            app_version=app_version, system_url=self._system_url, trace=str(self._trace or ""), kill=kill,
        )  # fmt: skip
        one = await self._spawn(order)
        if ready:
            await one.ready()
        return one

    def read_trace(self) -> list[TraceLine]:
        """What they have done so far."""
        return read_trace(self._trace) if self._trace else []

    async def _spawn(self, order: WorkerOrder) -> WorkerProcess:
        path = Path(self._folder.name) / f"{len(self._all)}-{order.service}.log"
        with path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mesh.testing.worker", msgspec.json.encode(order).decode(),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                start_new_session=True, env=dict(os.environ),
            )  # fmt: skip
        one = WorkerProcess(order.service, process, path)
        self._all.append(one)
        return one
