"""A whole mesh in one process: a real broker, its services, and a client."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, Self

import msgspec

from mesh.agents.app import Agent, Mesh
from mesh.bus import Bus, Observer
from mesh.client import Client, Result
from mesh.errors import BusUnavailable
from mesh.log.head import Entry
from mesh.log.reading import read_log
from mesh.server import EmbeddedServer
from mesh.service import Service, ServiceConfig, find_service
from mesh.settings import Settings
from mesh.streams import definitions
from mesh.subjects import Subjects
from mesh.testing.waiting import eventually

STOP_S: Final = 5.0
RESULT_S: Final = 30.0


class Serving:
    """One service that runs in this process, until it is stopped or cut off."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._started = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when it takes work; raises what it raises if it ends before."""
        self._task = asyncio.create_task(self.service.serve(self._started.set), name=self.service.name)
        waiting = asyncio.create_task(self._started.wait())
        try:
            await asyncio.wait((self._task, waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._task.done():
            ended, self._task = self._task, None
            await ended

    async def drain(self) -> None:
        """Lets it end what it holds."""
        self.service.stop()
        await self._wait()

    async def stop(self) -> None:
        """Lets it hand back what it holds; cuts it off if that takes too long."""
        self.service.stop_now()
        await self._wait(STOP_S)

    async def cut_off(self) -> None:
        """Ends it where it stands, as near to a crash as one process allows; `Processes` has the real one."""
        if self._task is not None:
            self._task.cancel()
        await self._wait()

    async def _wait(self, timeout_s: float | None = None) -> None:
        if self._task is None:
            return
        task, self._task = self._task, None
        await asyncio.wait((task,), timeout=timeout_s)
        task.cancel()
        await asyncio.wait((task,))
        if not task.cancelled():
            task.result()


class Broker(Protocol):
    """One server, or a cluster of them."""

    @property
    def url(self) -> str: ...

    @property
    def system_url(self) -> str: ...


class LocalMesh:
    """A mesh in this process while the block runs; the broker is a real one.

    Without a `server` it starts one of its own on `store`, or on a folder that is removed afterwards. With a `server`
    that is shared, or a `Cluster`, it takes a prefix of its own there, unless `settings` name one, and removes
    everything under that when it leaves. With `routers`, `executors` and `tool_runners` 0 it serves nothing until
    `start` is called; an app without tools gets no tool runner. With an app and a router there is a session store, too,
    for conversations and lists of tasks.

        async with LocalMesh(app) as mesh:
            result = await mesh.run("report", "otters")
    """

    client: Client
    bus: Bus

    def __init__(
        self,
        app: Mesh | None = None,
        *,
        settings: Settings | None = None,
        server: Broker | None = None,
        store: Path | None = None,
        routers: int = 1,
        executors: int = 1,
        tool_runners: int = 1,
        **config: Any,
    ) -> None:
        """Further keywords (`secrets`, `observer`, `app_version`) go to every `ServiceConfig`."""
        given = settings or Settings()
        self._shared = server is not None
        if self._shared and given.prefix == Settings().prefix:
            given = msgspec.structs.replace(given, prefix=f"t{secrets.token_hex(5)}")
        self.settings = given
        self.app = app
        self.names = Subjects(self.settings.prefix)
        self._server = server
        self._store = store
        self._members = {
            "router": routers,
            "session-store": int(bool(routers and app)),
            "tool-runner": tool_runners if app is not None and app.tools else 0,
            "executor": executors if app is not None else 0,
        }
        self._config = config
        self._stack = AsyncExitStack()
        self._serving: list[Serving] = []
        self._scratch = ""

    @property
    def server(self) -> EmbeddedServer:
        """The broker: `kill`, `start`, `restart`. Leave a shared one alone."""
        assert isinstance(self._server, EmbeddedServer), "enter the block first"
        return self._server

    @property
    def url(self) -> str:
        assert self._server is not None, "enter the block first"
        return self._server.url

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def start(
        self, service: str, *, app: Mesh | None = None, observer: Observer | None = None, app_version: str | None = None
    ) -> Serving:
        """Starts one more `router`, `executor` or `tool-runner`; it is stopped with the mesh."""
        config = dict(self._config)
        if service == "session-store" and "database" not in config:
            config["database"] = f"sqlite:///{self._scratch}/{secrets.token_hex(4)}.db"
        if observer is not None:
            config["observer"] = observer
        if app_version is not None:
            config["app_version"] = app_version
        if self._server is not None:
            config.setdefault("system_url", self._server.system_url)
        app = app or self.app
        serving = Serving(find_service(service)(ServiceConfig(url=self.url, settings=self.settings, app=app, **config)))
        self._serving.append(serving)
        await serving.start()
        return serving

    async def stop(self) -> None:
        """Stops all services, the last first; tasks stay where they are."""
        while self._serving:
            await self._serving.pop().stop()

    async def run(self, agent: Agent | str, input: Any, *, timeout_s: float = RESULT_S, **options: Any) -> Result:
        """Submits a task and waits for its end."""
        task = await self.client.submit(agent, input, **options)
        return await task.result(timeout_s)

    async def log(self, task: str) -> list[Entry]:
        """The log of a task as the broker has it; raises UnknownTask."""
        return await read_log(self.bus, self.names, task)

    async def left_in_queue(self) -> list[str]:
        """The subjects of commands that nobody has acknowledged; timers aside, which end by themselves."""
        prefix = self.names.prefix
        subjects = [
            message.subject.removeprefix(f"{prefix}.")
            for stream in (self.names.work, self.names.runs)
            for message in await self.bus.read(stream, f"{prefix}.>", first=1, leader=True)
        ]
        return [subject for subject in subjects if not subject.startswith("later.")]

    async def _open(self) -> None:
        if self._server is None:
            folder = self._store or Path(self._stack.enter_context(_folder()))
            self._server = server = EmbeddedServer(folder)
            self._stack.push_async_callback(server.stop)
            await server.start()
        self.bus = await Bus.connect(self.url, name="test")
        self._stack.push_async_callback(self.bus.aclose)
        # The nodes of a young cluster may lose sight of one another once more.
        await eventually(self._ensure, RESULT_S, forgive=BusUnavailable)
        if self._shared:
            self._stack.push_async_callback(self._remove)
        self._scratch = self._stack.enter_context(_folder())
        self.client = await Client.connect(self.url, prefix=self.settings.prefix)
        self._stack.push_async_callback(self.client.aclose)
        self._stack.push_async_callback(self.stop)
        for service, count in self._members.items():
            for _ in range(count):
                await self.start(service)

    async def _ensure(self) -> None:
        settings = self.settings
        wanted = definitions(self.names, ack_wait_s=settings.ack_wait_s, replicas=settings.durability.replicas)
        await self.bus.ensure(wanted)

    async def _remove(self) -> None:
        """What a memory stream has reserved would otherwise be missing for later meshes."""
        wanted = definitions(self.names)
        streams = [one.name for one in wanted.streams] + [f"KV_{one.name}" for one in wanted.buckets]
        streams += [f"OBJ_{one.name}" for one in wanted.objects]
        for stream in streams:
            await eventually(partial(self._delete, stream), forgive=BusUnavailable)

    async def _delete(self, stream: str) -> None:
        await self.bus.request(f"$JS.API.STREAM.DELETE.{stream}", b"", timeout_s=STOP_S)


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mesh-test-", ignore_cleanup_errors=True)
