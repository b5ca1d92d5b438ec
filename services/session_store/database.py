"""The database: transactions in threads, and the lock that says who applies. SQLite and PostgreSQL differ here only."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    NoSuchModuleError,
    SQLAlchemyError,
)
from sqlalchemy.pool import ConnectionPoolEntry

from mesh.errors import AppError, MeshError
from mesh.server.lock import flock_module, open_lock
from schemas import error as codes

READERS: Final = 4
POLL_S: Final = 0.2
BUSY_MS: Final = 10_000
P = ParamSpec("P")
T = TypeVar("T")


class DatabaseUnavailable(MeshError):
    """The database did not answer, or refused; it may answer later."""

    code = codes.BUS_UNAVAILABLE
    retryable = True


class DataRefused(MeshError):
    """A value is nothing that the database can hold or compare; it will be refused again."""

    code = codes.INVALID_INPUT


class Lock(Protocol):
    """Held by at most one process of those that share a database."""

    def acquire(self) -> bool:
        """Whether it is held now; returns at once."""
        ...

    def holds(self) -> bool:
        """Whether it is still held."""
        ...

    def release(self) -> None: ...


class Database:
    """One database; everything that waits for it does so in a thread of its own."""

    def __init__(self, url: str) -> None:
        parsed = _parsed(url)
        self.shown = parsed.render_as_string(hide_password=True)
        self.shared = parsed.get_backend_name() != "sqlite"
        self._engine = _engine(parsed)
        self._lock: Lock = AdvisoryLock(self._engine) if self.shared else FileLock(Path(f"{parsed.database}.lock"))
        self._writer = ThreadPoolExecutor(1, "session-store-writer")
        self._readers = ThreadPoolExecutor(READERS, "session-store-reader")
        self._locker = ThreadPoolExecutor(1, "session-store-lock")

    async def aclose(self) -> None:
        """Waits for what is under way, and closes all connections."""
        for pool in (self._writer, self._readers, self._locker):
            await asyncio.to_thread(pool.shutdown)
        # It may have been taken for somebody who no longer waited.
        await asyncio.to_thread(self._lock.release)
        await asyncio.to_thread(self._engine.dispose)

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One transaction that may change something; one at a time.

        Raises: DatabaseUnavailable, and then nothing of it stands.
        """
        return await self._run(self._writer, self._write, work, args, kwargs)

    async def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """One transaction that sees one state of the database throughout.

        Raises: DatabaseUnavailable.
        """
        return await self._run(self._readers, self._read, work, args, kwargs)

    @asynccontextmanager
    async def locked(self, waiting: Callable[[], None]) -> AsyncIterator[Callable[[], Any]]:
        """Waits for the lock, and gives the question whether it is still held; says so while another has it."""
        loop = asyncio.get_running_loop()
        while True:
            if await self._run(self._locker, self._lock.acquire):
                break
            waiting()
            await asyncio.sleep(POLL_S)
        try:
            yield lambda: loop.run_in_executor(self._locker, self._lock.holds)
        finally:
            await asyncio.shield(loop.run_in_executor(self._locker, self._lock.release))

    async def _run(self, pool: ThreadPoolExecutor, way: Callable[..., T], *args: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, way, *args)
        except (DataError, IntegrityError, OverflowError, ValueError) as error:
            raise DataRefused(f"the database {self.shown} cannot hold this: {error}") from error
        except DBAPIError as error:
            raise DatabaseUnavailable(f"the database {self.shown} refuses: {error.orig}") from error
        except (SQLAlchemyError, OSError) as error:
            raise DatabaseUnavailable(f"the database {self.shown} cannot be used: {error}") from error

    def _write(self, work: Callable[..., T], args: Any, kwargs: Any) -> T:
        with self._engine.connect().execution_options(**_WRITING[self.shared]) as connection, connection.begin():
            return work(connection, *args, **kwargs)

    def _read(self, work: Callable[..., T], args: Any, kwargs: Any) -> T:
        with self._engine.connect().execution_options(**_READING[self.shared]) as connection, connection.begin():
            return work(connection, *args, **kwargs)


_WRITING: Final[dict[bool, dict[str, Any]]] = {
    False: {"mesh_begin": "BEGIN IMMEDIATE"},
    True: {"isolation_level": "READ COMMITTED"},
}
_READING: Final[dict[bool, dict[str, Any]]] = {
    False: {},
    True: {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True},
}


class AdvisoryLock:
    """PostgreSQL's own, held by a connection: when that ends, so does the lock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._key = int.from_bytes(hashlib.sha256(b"mesh session store").digest()[:8], signed=True)

    def acquire(self) -> bool:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            taken = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": self._key}))
        except BaseException:
            connection.close()
            raise
        if taken:
            self._connection = connection
        else:
            connection.close()
        return taken

    def holds(self) -> bool:
        if self._connection is None:
            return False
        try:
            return bool(self._connection.scalar(text("SELECT 1")))
        except SQLAlchemyError:
            return False

    def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # Not back into the pool, where it would keep the lock.
            connection.invalidate()
            connection.close()


class FileLock:
    """An `flock` beside the file: when the process ends, or the lock is removed with the file, so does the lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self) -> bool:
        fcntl = flock_module()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = open_lock(self._path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def holds(self) -> bool:
        return self._fd is not None and _file_at(self._path) == _which(os.fstat(self._fd))

    def release(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise AppError(
            "MESH_DATABASE is no URL of a database", hint="sqlite:///folder/file.db or postgresql://user@host/name"
        ) from error
    if parsed.drivername in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise AppError(f"MESH_DATABASE: {parsed.drivername} is not known here", hint="sqlite or postgresql")
    if parsed.get_backend_name() == "sqlite" and (not parsed.database or parsed.database == ":memory:"):
        raise AppError("MESH_DATABASE names no file", hint="sqlite:///folder/file.db")
    return parsed


def _engine(url: URL) -> Engine:
    try:
        engine = create_engine(url, pool_pre_ping=url.get_backend_name() != "sqlite", pool_size=READERS + 2)
    except (NoSuchModuleError, ImportError) as error:
        raise AppError(
            f"the driver for {url.drivername} is not installed", hint="pip install 'nats-agent-mesh[postgres]'"
        ) from error
    if url.get_backend_name() == "sqlite":
        kept = _Kept(Path(str(url.database)))
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "connect", kept.opened)
        event.listen(engine, "checkout", kept.taken)
        event.listen(engine, "begin", _begin)
    return engine


class _Kept:
    """Lets go of connections whose file was removed, or replaced: they would go on showing the old one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def opened(self, _: Any, record: ConnectionPoolEntry) -> None:
        record.info["file"] = _file_at(self._path)

    def taken(self, _: Any, record: ConnectionPoolEntry, proxy: Any) -> None:
        if record.info["file"] != _file_at(self._path):
            raise DisconnectionError(f"{self._path} is another file now")


def _file_at(path: Path) -> tuple[int, int] | None:
    try:
        return _which(path.stat())
    except OSError:
        return None


def _which(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _prepare(connection: Any, _: Any) -> None:
    """Readers see one state while a writer works, and what was committed survives the death of any process."""
    # The driver would begin transactions by itself, and only before it writes.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={BUSY_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("mesh_begin", "BEGIN"))
