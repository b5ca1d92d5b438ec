"""What tests about workers ask of a mesh whose executors and tool runners are processes."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mesh.bus import Subscription
from mesh.server import EmbeddedServer
from mesh.settings import Settings
from mesh.testing import LocalMesh, Processes, WorkerProcess, assert_invariants, eventually
from mesh.testing.cable import HOST, Cable
from mesh.testing.trace import EFFECT
from schemas.agent import WorkerRecord
from schemas.task import TaskReleased, TaskStarted

APP = f"{Path(__file__).parent / 'holding_app.py'}:app"


class Holding:
    """A mesh whose routers are in this process; `gate` lets everything that is held go on.

    `processes` find the broker where the test says, `others` at its own address.
    """

    def __init__(self, mesh: LocalMesh, processes: Processes, others: Processes, folder: Path) -> None:
        self.mesh = mesh
        self.processes = processes
        self.others = others
        self.gate = folder / "gate"

    def open_gate(self) -> None:
        self.gate.touch()

    async def workers(self) -> list[WorkerRecord]:
        names = self.mesh.names.workers
        bodies = [await self.mesh.bus.fetch(names, key) for key in await self.mesh.bus.keys(names)]
        return [msgspec.json.decode(body, type=WorkerRecord) for body in bodies if body]

    async def name_of(self, process: WorkerProcess) -> str:
        """The name under which a process works."""

        async def found() -> str:
            return next((one.worker for one in await self.workers() if one.pid == process.pid), "")

        return await eventually(found)

    async def lists(self, process: WorkerProcess, count: int = 1) -> str:
        """Returns once a worker's presence lists so many deliveries; its name."""

        async def listed() -> str:
            workers = [one for one in await self.workers() if one.pid == process.pid]
            return workers[0].worker if workers and len(workers[0].replies) == count else ""

        return await eventually(listed)

    def effects(self, name: str) -> int:
        """How often an effect was begun."""
        return sum(line.kind == EFFECT and line.subject == name for line in self.processes.read_trace())

    async def queue_is_empty(self) -> None:
        """Returns once every command has been acknowledged."""

        async def empty() -> bool:
            return not await self.mesh.left_in_queue()

        await eventually(empty)

    async def story(self, task: str) -> tuple[list[TaskStarted], list[TaskReleased]]:
        """The claims of a task that ended, and its releases."""
        entries = await self.mesh.log(task)
        assert_invariants(entries)
        data: list[Any] = [event.data for entry in entries for event in entry.commit.events]
        return [d for d in data if isinstance(d, TaskStarted)], [d for d in data if isinstance(d, TaskReleased)]

    async def asked(self, worker: str, into: list[bytes]) -> Subscription:
        """Hears what a worker is asked."""
        return await self.mesh.bus.subscribe(self.mesh.names.worker(worker), lambda message: into.append(message.data))


@asynccontextmanager
async def holding(
    server: EmbeddedServer, folder: Path, *, url: str = "", events: bool = True, **settings: Any
) -> AsyncIterator[Holding]:
    """Two routers here; `url` is where the processes find the broker, if not at its own address.

    Without `events` the routers do not hear of closed connections.
    """
    system_url = server.system_url if events else ""
    async with (
        LocalMesh(server=server, settings=Settings(**settings), routers=2, system_url=system_url) as mesh,
        Processes(url or mesh.url, APP, settings=mesh.settings, trace=folder / "trace") as processes,
        Processes(mesh.url, APP, settings=mesh.settings, trace=folder / "trace") as others,
    ):
        yield Holding(mesh, processes, others, folder)


@asynccontextmanager
async def cable_to(server: EmbeddedServer) -> AsyncIterator[Cable]:
    """A cable to a broker, at a port of its own."""
    port = urlsplit(server.url).port
    assert port
    with socket.create_server((HOST, 0)) as free:
        own = free.getsockname()[1]
    async with Cable(own, port) as cable:
        yield cable


def url_of(cable: Cable) -> str:
    """Where those connect to who are to be cut off."""
    return f"nats://{HOST}:{cable.port}"
