"""The store folder: what stands in it, and who serves it now.

    .gitignore      `*`: a store is never committed
    lock            flocked while a parent or its server lives; holds the parent's pid
    server.json     how to reach the server; only while one runs
    nats.conf       written at every start
    nats.log        the server's log; nats.log.old is that of the run before
    ports/          where the server tells the port it got
    jetstream/      the data

Whoever writes here holds the lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from mesh.errors import ServerError

from .lock import is_locked, lives


class ServerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the server of a store; the content of its `server.json`.

    The system user hears of closed connections (`$SYS.ACCOUNT.*.DISCONNECT`); all others connect without credentials.
    """

    url: str
    pid: int
    system_user: str
    system_password: str = ""

    @property
    def system_url(self) -> str:
        """The same server for the system user; empty if none is known."""
        scheme, _, rest = self.url.partition("://")
        return f"{scheme}://{self.system_user}:{self.system_password}@{rest}" if self.system_password else ""


class Store:
    """The paths of one store folder, and the few files that are kept in it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.lock_path = self.path / "lock"
        self.config_path = self.path / "nats.conf"
        self.log_path = self.path / "nats.log"
        self.ports_path = self.path / "ports"
        self.record_path = self.path / "server.json"

    def create(self) -> None:
        """Make the folder, ready to be locked.

        Raises: ServerError when it cannot be made or written.
        """
        with usable(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / ".gitignore").write_text("*\n")

    def clear(self) -> None:
        """Forget the run before: its record, and its log but for one old copy."""
        with usable(self.path):
            self.remove_record()
            if self.log_path.exists():
                self.log_path.replace(self.log_path.with_suffix(".log.old"))

    def prepare(self, config: str) -> None:
        """Write what a server needs to start; a ports file that a killed one left is removed."""
        with usable(self.path):
            self.ports_path.mkdir(exist_ok=True)
            for left in self.ports_path.iterdir():
                left.unlink()
            write_private(self.config_path, config.encode())

    def open_log(self) -> BinaryIO:
        """The log, for the server to add to it."""
        with usable(self.path):
            return self.log_path.open("ab")

    def write_record(self, record: ServerRecord) -> None:
        """Say where the server is; readers see the old record or the new one, never a part."""
        with usable(self.path):
            write_private(self.record_path, msgspec.json.encode(record))

    def remove_record(self) -> None:
        """Say that no server runs."""
        self.record_path.unlink(missing_ok=True)


def read_server_json(store: Path) -> ServerRecord | None:
    """The server that runs on this store now, or None.

    A record that a killed process left is not believed: the server's process must live, and the store must be locked
    (a pid alone may belong to another process by now).

    Raises: ServerError when the record is another user's and cannot be read.
    """
    paths = Store(store)
    try:
        record = msgspec.json.decode(paths.record_path.read_bytes(), type=ServerRecord)
        return record if is_locked(paths.lock_path) and lives(record.pid) else None
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
    except PermissionError as error:
        raise ServerError(
            f"{error.filename} cannot be read", hint="another user runs this mesh; name its server with --server"
        ) from error


@contextmanager
def usable(path: Path) -> Iterator[None]:
    """Translate what the file system refuses.

    Raises: ServerError with the path and what can be done.
    """
    try:
        yield
    except OSError as error:
        where = f" at {error.filename}" if error.filename not in (None, str(path)) else ""
        raise ServerError(
            f"{path} cannot be used as a store: {error.strerror}{where}",
            hint="name a folder on a local disk with free space that you may write to (--store)",
        ) from error


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, since it holds a password.

    It is always a new one that takes the place of the old: who could read that, or has it open, does not see this.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "wb") as out:
        out.write(content)
    new.replace(path)
