"""A broker and services as processes, on a store of their own, for one measurement."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.bench.cpu import CpuMeter
from mesh.bus import Bus
from mesh.client import Client
from mesh.errors import ServerError
from mesh.server import EmbeddedServer
from mesh.subjects import Subjects
from mesh.testing.cluster import Cluster

DEFAULT: Final = "dev"
FLUSHED: Final = "single"
CLUSTER: Final = "cluster"
_START_S: Final = 30.0
_STOP_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What runs: the broker, the services by name, and this process as the client."""

    url: str
    names: Subjects
    bus: Bus
    client: Client
    pids: dict[str, int]

    def meter(self) -> CpuMeter:
        """Meters every process of the stage from now on."""
        return CpuMeter(self.pids)


@asynccontextmanager
async def broker(store: Path | None, durability: str) -> AsyncIterator[EmbeddedServer]:
    """A broker on an empty store that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-", dir=store, ignore_cleanup_errors=True) as folder:
        async with EmbeddedServer(Path(folder) / "store", durability=durability) as server:
            yield server


@asynccontextmanager
async def _brokers(store: Path | None, durability: str) -> AsyncIterator[tuple[str, dict[str, int]]]:
    """The URL and the processes of one broker, or of a cluster of three."""
    if durability != CLUSTER:
        async with broker(store, durability) as server:
            yield server.url, {"broker": server.pid or 0}
        return
    with tempfile.TemporaryDirectory(prefix="mesh-bench-", dir=store, ignore_cleanup_errors=True) as folder:
        async with Cluster(Path(folder)) as cluster:
            yield cluster.url, {f"broker {number}": node.pid or 0 for number, node in enumerate(cluster.nodes, 1)}


@asynccontextmanager
async def mesh(
    store: Path | None, *, durability: str = DEFAULT, executors: int = 1, tool_runners: int = 0
) -> AsyncIterator[Stage]:
    """A whole mesh: broker, one router, executors, tool runners; the client is this process."""
    async with AsyncExitStack() as stack:
        url, pids = await stack.enter_async_context(_brokers(store, durability))
        pids["client"] = os.getpid()
        services = {"router": 1, "executor": executors, "tool-runner": tool_runners}
        for service, count in services.items():
            for number in range(count):
                process = await stack.enter_async_context(_worker(service, url, durability))
                pids[service if service == "router" else f"{service} {number}"] = process.pid
        client = await stack.enter_async_context(Client.connect(url, timeout_s=30.0))
        bus = await Bus.connect(url, name="bench")
        stack.push_async_callback(bus.aclose)
        yield Stage(url=url, names=Subjects(), bus=bus, client=client, pids=pids)


@asynccontextmanager
async def _worker(service: str, url: str, durability: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mesh.bench.worker",
        service,
        url,
        durability,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout
        async with asyncio.timeout(_START_S):
            if not await process.stdout.readline():
                raise ServerError(f"the {service} of the benchmark ended before it took work")
        yield process
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin
    process.stdin.close()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
