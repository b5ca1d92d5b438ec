"""The embedded server: start, stop, kill, restart on one store."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from mesh.errors import ServerError

from . import config
from .binary import find_binary
from .failure import ended_early, read_log, with_log
from .lock import StoreLock, flock_module
from .process import ServerProcess
from .readiness import reachable, until_ready
from .store import ServerRecord, Store, usable

# A store with millions of messages takes seconds to recover after a crash, and the server listens only then.
START_S = 60.0
STOP_S = 5.0


class EmbeddedServer:
    """A real nats-server with JetStream that ends with this process.

    Clients connect to `url` without credentials. It listens on loopback unless told otherwise, because everybody who
    reaches it may do everything. Without a `port` it gets a free one and keeps it for later starts of this object, so
    that clients find it again. `durability` names a profile: with "dev" data survive the death of any process, with
    "single" and "cluster" also a loss of power, at the price of one flush per message.

    The life of the process belongs to no event loop; the calls of one object must not overlap, `wait_died` excepted.
    """

    def __init__(
        self,
        store: Path,
        *,
        port: int | None = None,
        host: str = "127.0.0.1",
        durability: str = "dev",
        config_extra: str = "",
        server_name: str = "mesh",
    ) -> None:
        self._files = Store(store)
        self._port = port
        self._host = host
        self._durability = durability
        self._extra = config_extra
        self._name = server_name
        self._password = secrets.token_urlsafe(24)
        self._lock: StoreLock | None = None
        self._process: ServerProcess | None = None

    @property
    def store(self) -> Path:
        """The folder of the data, as an absolute path."""
        return self._files.path

    @property
    def log_path(self) -> Path:
        """The server's log; that of the run before stands beside it."""
        return self._files.log_path

    @property
    def url(self) -> str:
        """Where clients connect to.

        Raises: ServerError when no port was given and the server was never started.
        """
        if self._port is None:
            raise ServerError("the embedded server has no port before its first start")
        host = reachable(self._host)
        return f"nats://[{host}]:{self._port}" if ":" in host else f"nats://{host}:{self._port}"

    @property
    def system_url(self) -> str:
        """The same for the system user, who hears of closed connections."""
        return self._record(0).system_url

    @property
    def pid(self) -> int | None:
        """The server's process id, or None when it does not run."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process and running else None

    async def start(self) -> None:
        """Return when JetStream answers; nothing to do if it runs.

        *Cancellation:* ends what has been started, as an error does; only a restart keeps the lock then.

        Raises: StoreLocked with the pid of the other mesh; PortTaken, and the caller may choose a free one; ServerError
        with the server's own words otherwise.
        """
        if self.pid is not None:
            return
        flock_module()
        binary = find_binary(os.environ)
        first = self._lock is None
        try:
            if self._lock is None:
                self._lock = await self._locked()
                self._files.clear()
            await self._run(binary, self._lock)
        except BaseException:
            await self._give_up(release=first)
            raise

    async def stop(self) -> None:
        """End the server and free the store; nothing to do if that has been done."""
        if self._process is not None:
            await self._process.end(STOP_S)
            self._process = None
        self._release()

    async def kill(self) -> None:
        """End the server with SIGKILL; lock and port are kept for the next start."""
        if self._process is not None:
            await self._process.kill()

    async def restart(self) -> None:
        """Stop and start on the same port, without giving up the store in between."""
        if self._process is not None:
            await self._process.end(STOP_S)
        await self.start()

    async def wait_died(self) -> int:
        """The exit code of the server, once it has ended; negative for a signal.

        It is for an owner who must notice a death. Whoever stops the server on purpose ends this wait first, because
        it cannot tell the two apart.

        Raises: ServerError when the server has not been started.
        """
        if self._process is None:
            raise ServerError("the embedded server has not been started")
        return await self._process.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def _locked(self) -> StoreLock:
        self._files.create()
        with usable(self.store):
            return await StoreLock.acquire(self._files.lock_path)

    async def _run(self, binary: Path, lock: StoreLock) -> None:
        self._files.prepare(self._config())
        try:
            self._process = process = ServerProcess(binary, self._files, lock.fd)
            lock.name(process.pid)
        except OSError as error:
            raise ServerError(
                f"the nats-server cannot be spawned: {error}", hint="check the system's limits"
            ) from error
        self._port = await self._ready(process)
        self._files.write_record(self._record(process.pid))

    def _record(self, pid: int) -> ServerRecord:
        return ServerRecord(
            url=self.url, pid=pid, system_user=config.SYSTEM_USER, system_password=self._password
        )  # fmt: skip

    async def _ready(self, process: ServerProcess) -> int:
        try:
            async with asyncio.timeout(START_S):
                port = await until_ready(process, self._files.ports_path, self._host)
        except TimeoutError:
            lines = read_log(self.log_path, process.log_start)
            raise with_log(f"the nats-server was not ready after {START_S:.0f} s", lines, self.log_path) from None
        if port is None:
            lines = read_log(self.log_path, process.log_start)
            raise ended_early(await process.wait(), lines, self.log_path, self._host, self._port)
        return port

    def _config(self) -> str:
        return config.render(
            self.store,
            server_name=self._name,
            host=self._host,
            port=self._port,
            durability=self._durability,
            system_password=self._password,
            extra=self._extra,
        )

    async def _give_up(self, *, release: bool) -> None:
        if self._process is not None:
            await self._process.kill()
        if release:
            self._process = None
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._files.remove_record()
            self._lock.release()
            self._lock = None
