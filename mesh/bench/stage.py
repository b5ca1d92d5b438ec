"""A broker and services as processes, on a store of their own, for one measurement."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from mesh.bench.cpu import CpuMeter
from mesh.bench.order import Order
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
Broker = EmbeddedServer | Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What runs: the broker, the services by name, and this process as the client."""

    url: str
    durability: str
    names: Subjects
    bus: Bus
    client: Client
    pids: dict[str, int]

    def meter(self) -> CpuMeter:
        """Meters every process of the stage from now on."""
        return CpuMeter(self.pids)

    def executor(self) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
        """One more executor while the block runs, which may kill it."""
        return _worker(Order("executor", self.url, self.durability))


@asynccontextmanager
async def broker(store: Path | None, durability: str) -> AsyncIterator[EmbeddedServer]:
    """A broker on an empty store that is removed afterwards."""
    with _folder(store) as folder:
        async with EmbeddedServer(folder / "store", durability=durability) as server:
            yield server


@asynccontextmanager
async def _brokers(store: Path | None, durability: str) -> AsyncIterator[tuple[Broker, dict[str, int]]]:
    """One broker, or a cluster of three, and the processes."""
    if durability != CLUSTER:
        async with broker(store, durability) as server:
            yield server, {"broker": server.pid or 0}
        return
    with _folder(store) as folder:
        async with Cluster(folder) as cluster:
            yield cluster, {f"broker {number}": node.pid or 0 for number, node in enumerate(cluster.nodes, 1)}


@asynccontextmanager
async def mesh(
    store: Path | None,
    *,
    durability: str = DEFAULT,
    executors: int = 1,
    tool_runners: int = 0,
    session_store: bool = False,
    takeover: bool = False,
) -> AsyncIterator[Stage]:
    """A whole mesh: broker, one router, executors, tool runners, perhaps a session store; the client is this process.

    With `takeover` the router hears of closed connections.
    """
    async with AsyncExitStack() as stack:
        server, pids = await stack.enter_async_context(_brokers(store, durability))
        pids["client"] = os.getpid()
        url = server.url
        orders = {"router": Order("router", url, durability, system_url=server.system_url if takeover else "")}
        orders |= {f"executor {number}": Order("executor", url, durability) for number in range(executors)}
        orders |= {f"tool-runner {number}": Order("tool-runner", url, durability) for number in range(tool_runners)}
        if session_store:
            database = f"sqlite:///{stack.enter_context(_folder(store)) / 'sessions.db'}"
            orders["session-store"] = Order("session-store", url, durability, database=database)
        for name, order in orders.items():
            pids[name] = (await stack.enter_async_context(_worker(order))).pid
        client = await stack.enter_async_context(Client.connect(url, timeout_s=30.0))
        bus = await Bus.connect(url, name="bench")
        stack.push_async_callback(bus.aclose)
        yield Stage(url=url, durability=durability, names=Subjects(), bus=bus, client=client, pids=pids)


@contextmanager
def _folder(store: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mesh-bench-", dir=store, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@asynccontextmanager
async def _worker(order: Order) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mesh.bench.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdin
        assert process.stdout
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        async with asyncio.timeout(_START_S):
            if not await process.stdout.readline():
                raise ServerError(f"the {order.service} of the benchmark ended before it took work")
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
