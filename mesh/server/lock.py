"""One server per store: a lock that is free only when parent and server are both gone."""

from __future__ import annotations

import asyncio
import importlib
import os
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from mesh.errors import ServerError, StoreLocked

_fcntl: ModuleType | None
try:
    _fcntl = importlib.import_module("fcntl")
except ImportError:  # Windows: this package is imported there too, to learn that no server runs on a store.
    _fcntl = None

RETRY_S = 2.0
POLL_S = 0.02


class StoreLock:
    """An `flock` whose file descriptor the server inherits.

    `flock` belongs to the open file, not to a process, so the store stays locked while a server outlives its parent,
    and is free at the moment the last of the two ends, however it ends.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    async def acquire(cls, path: Path) -> StoreLock:
        """Take the lock, waiting up to two seconds for the server of a killed parent to close.

        Raises: StoreLocked with the pid of the holder; ServerError where locks are missing (Windows).
        """
        fd = open_lock(path)
        try:
            await _locked(fd, path)
            lock = cls(fd)
            lock.name()
        except BaseException:
            os.close(fd)
            raise
        return lock

    def name(self, server: int | None = None) -> None:
        """Write down who holds the lock: this process, and its server once there is one."""
        holders = [os.getpid()] if server is None else [os.getpid(), server]
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, "".join(f"{pid}\n" for pid in holders).encode(), 0)

    def release(self) -> None:
        """Give up this process's share; call it when the server has ended."""
        os.close(self.fd)


def open_lock(path: Path) -> int:
    """The file, made if it is not there; only its owner may open it, since whoever opens it can hold the lock."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with suppress(PermissionError):  # another's file, who may have it as he likes
        os.fchmod(fd, 0o600)
    return fd


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock; false where there can be none."""
    if _fcntl is None:
        return False
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _try(fd, exclusive=False)
    finally:
        os.close(fd)


def lives(pid: int) -> bool:
    """Whether a process has this id; not to be asked on Windows, where the question ends the process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def flock_module() -> ModuleType:
    """The module that locks files.

    Raises: ServerError where there is none, so that nothing else has to be asked of such a platform.
    """
    if _fcntl is None:
        raise ServerError(
            "the embedded server runs on Linux and macOS only",
            hint="start a nats-server with JetStream and name it with --server",
        )
    return _fcntl


async def _locked(fd: int, path: Path) -> None:
    deadline = asyncio.get_running_loop().time() + RETRY_S
    while not _try(fd, exclusive=True):
        if asyncio.get_running_loop().time() > deadline:
            raise _held(fd, path.parent)
        await asyncio.sleep(POLL_S)


def _try(fd: int, *, exclusive: bool) -> bool:
    fcntl = flock_module()
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _held(fd: int, store: Path) -> StoreLocked:
    named = [int(word) for word in os.pread(fd, 64, 0).split() if word.isdigit()]
    pid = next(filter(lives, named), None)
    return StoreLocked(
        f"the store {store} is in use by process {pid or '(unknown)'}",
        pid=pid,
        hint="use the mesh that runs there, or stop that process, or name another store",
    )
