"""One mesh under a prefix of its own on a real server; its services run as tasks of the test."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from mesh import Mesh, Result, TaskEvent
from mesh.bus import StoredMessage
from mesh.client import result_of
from mesh.log.driver import entry_of
from mesh.log.head import Entry, fold
from mesh.log.texts import texts_in
from mesh.server import EmbeddedServer
from mesh.settings import Settings
from mesh.testing import LocalMesh, eventually
from mesh.testing.local_mesh import Serving
from schemas import task as tasks
from schemas.command import DeadLetter
from schemas.envelope import Head

TAIL_ONLY = {"text", "text.discarded"}


class Outcome(Struct, frozen=True):
    """How a task ended, by its log, its tail and its result, which agree."""

    result: Result
    types: list[str]
    text: str
    entries: list[Entry]


class World(LocalMesh):
    """A mesh in which nothing runs until the test starts it."""

    def __init__(self, server: EmbeddedServer, **settings: Any) -> None:
        short = {"unknown_agent_grace_s": 0.2, "cancel_grace_s": 0.5}
        super().__init__(server=server, settings=Settings(**(short | settings)), routers=0)

    def set(self, **changes: Any) -> None:
        """Other settings for services started from now on."""
        self.settings = msgspec.structs.replace(self.settings, **changes)

    def give(self, **config: Any) -> None:
        """Further keywords of the `ServiceConfig` of services started from now on."""
        self._config.update(config)

    async def router(self) -> Serving:
        return await self.start("router")

    async def executor(self, app: Mesh, version: str = "1") -> Serving:
        return await self.start("executor", app=app, app_version=version)

    async def runner(self, app: Mesh) -> Serving:
        return await self.start("tool-runner", app=app)

    async def serve(self, app: Mesh) -> Serving:
        """A router and one executor."""
        await self.router()
        return await self.executor(app)

    async def entries(self, task: str) -> list[Entry]:
        messages = await self.bus.read(self.names.tasks, self.names.task(task), first=1, leader=True)
        return [entry_of(message) for message in messages]

    async def phase(self, task: str) -> str:
        log = await self.entries(task)
        return log[-1].commit.head.phase if log else "none"

    async def reaches(self, task: str, *phases: str) -> str:
        """Waits until a task is in one of these phases."""

        async def there() -> str:
            phase = await self.phase(task)
            return phase if phase in phases else ""

        return await eventually(there)

    async def dead(self, kind: str, task: str = "*") -> list[DeadLetter]:
        found = self.bus.last_per_subject(self.names.dead_letters, self.names.dead(kind, task))
        subjects = [message.subject async for message in found]
        return [
            msgspec.json.decode(message.data, type=DeadLetter)
            for subject in subjects
            for message in await self.bus.read(self.names.dead_letters, subject, first=1)
        ]

    async def queue_is_empty(self) -> bool:
        """Whether nothing circles and nothing was forgotten."""
        return not await self.left_in_queue()

    async def queued(self, kind: str) -> list[StoredMessage]:
        """The commands of one kind that nobody has acknowledged."""
        stream = self.names.runs if kind in ("run", "call") else self.names.work
        return await self.bus.read(stream, f"{self.settings.prefix}.{kind}.>", first=1)

    async def outcome(self, task: str) -> Outcome:
        """Waits for the end; asserts that log, tail and result agree, and that the heads follow from the events."""
        tail = [event async for event in self.client.task(task).tail()]
        result = await self.client.result(task)
        entries = await self.entries(task)
        events = [event for entry in entries for event in entry.commit.events]
        types = [event.type for event in events]
        assert sum(kind in tasks.TERMINAL for kind in types) == 1, types
        assert types[-1] in tasks.TERMINAL
        assert [event.type for event in tail if event.type not in TAIL_ONLY] == types
        assert result.state == result_of(task, tail[-1]).state == types[-1].removeprefix("task.")
        said = result_of(task, TaskEvent("", types[-1], events[-1].data, ""), result.artifacts)
        assert result == await self.client.restore(said)
        text = "".join(added.text for event in events for added in texts_in(event.data))
        assert told_text(tail) == text
        head = Head()
        for n, entry in enumerate(entries):
            assert entry.commit.n == n
            head = fold(head, n, entry.commit.by, entry.commit.events)
            assert head == entry.commit.head
        return Outcome(result, types, text, entries)


def told_text(tail: list[TaskEvent]) -> str:
    """The text that a tail told, less what it took back; what a model thought and called is no text."""
    pieces: list[tuple[tuple[str, int], str]] = []
    for event in tail:
        if event.type == "text":
            pieces += [
                ((event.data.step, event.data.part), one) for one in event.data.text if event.data.kind == "text"
            ]
        elif event.type == "text.discarded":
            part = (event.data.step, event.data.part)
            mine = [index for index, (of, _) in enumerate(pieces) if of == part]
            for index in reversed(mine[-event.data.length :]):
                del pieces[index]
    return "".join(text for _, text in pieces)
