"""Fast takeover (K1): hands on at once what a worker held whose connection the broker reports closed.

The event goes to one router of a mesh. A short grace lets a worker that reconnects return, and whoever answers keeps
what it holds. Without the event, or without this router, the deliveries come again after `ack_wait`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import structlog
from msgspec import Struct

from mesh.bus import Bus, LiveMessage, StoredMessage, parse_ack
from mesh.errors import MeshError, PermissionDenied
from mesh.log.driver import Driver
from mesh.log.ops import Flow
from schemas.agent import WorkerRecord
from schemas.command import Call, Run
from schemas.unreadable import UNREADABLE
from services.router import rules
from services.router.rules import Lost

EVENTS: Final = "$SYS.ACCOUNT.*.DISCONNECT"
IN_ORDER: Final = "Client Closed"
# With the pause between the two questions these are the 50 ms of K1 before a worker can be taken for lost.
GRACE_S: Final = 0.02
# A link that broke, rather than was closed, may belong to a worker that lives and dials again.
LONG_GRACE_S: Final = 0.5
SERVICES: Final = ("executor-", "tool-runner-")
COMMIT: Final = "commit"
NAK: Final = b"-NAK"
log = structlog.get_logger("mesh.router")


class _Client(Struct):
    name: str = ""


class Disconnected(Struct):
    """What the broker says of a connection that was closed."""

    client: _Client
    reason: str = ""


class Takeover:
    """Listens in the broker's system account, and acts in the mesh's."""

    def __init__(self, driver: Driver, router: rules.Router) -> None:
        self._driver = driver
        self._router = router
        self._events: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    @asynccontextmanager
    async def listening(self, url: str, name: str) -> AsyncIterator[None]:
        """Hears of closed connections while the block runs, if there is an `url` with a system user.

        Raises: BusUnavailable where no broker answers.
        """
        if not url:
            yield
            return
        try:
            bus = await Bus.connect(url, name=f"{name}/system")
        except PermissionDenied as error:
            log.warning("no fast takeover: the system user is refused", error=str(error), hint="check MESH_SYSTEM_URL")
            yield
            return
        try:
            await bus.subscribe(EVENTS, self.take, queue=f"{self._router.names.prefix}-routers")
            yield
        finally:
            await bus.aclose()

    def take(self, message: LiveMessage) -> None:
        """One event; only the connection counts by which a worker commits: while that stands, it can go on."""
        try:
            event = msgspec.json.decode(message.data, type=Disconnected)
        except UNREADABLE as error:
            log.warning("a disconnect event cannot be read", error=str(error))
            return
        worker, _, link = event.client.name.partition("/")
        if worker.startswith(SERVICES) and link == COMMIT:
            self._events.put_nowait((worker, event.reason))

    async def serve(self) -> None:
        """Follows the events for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._follow(*await self._events.get()))

    async def _follow(self, worker: str, reason: str) -> None:
        await asyncio.sleep(GRACE_S if reason == IN_ORDER else LONG_GRACE_S)
        bus, names = self._driver.bus, self._router.names
        try:
            body = await bus.fetch(names.workers, worker)
            record = msgspec.json.decode(body, type=WorkerRecord) if body else None
        except (MeshError, *UNREADABLE) as error:
            log.warning("the presence of a lost worker cannot be read", worker=worker, error=str(error))
            return
        if record is not None:
            if record.unlisted:
                log.info("left to ack_wait", worker=worker, deliveries=record.unlisted)
            async with asyncio.TaskGroup() as group:
                for reply in record.replies:
                    group.create_task(self._hand_on(worker, reply))

    async def _hand_on(self, worker: str, reply: str) -> None:
        bus = self._driver.bus
        try:
            held = parse_ack(reply)
            lost = Lost(worker, held.stream_seq, held.delivered)
            message = await bus.get(self._router.names.runs, lost.seq)
            if message is not None and await self._driver.drive(self._flow(message, lost)):
                await bus.send(reply, NAK)
                log.info("handed on", subject=message.subject, seq=lost.seq, worker=worker)
        except (MeshError, ValueError, LookupError, *UNREADABLE) as error:
            log.warning("not handed on", reply=reply, worker=worker, error=repr(error))

    def _flow(self, message: StoredMessage, lost: Lost) -> Flow[bool]:
        if message.subject.startswith(f"{self._router.names.prefix}.call."):
            return rules.hand_on_call(msgspec.json.decode(message.data, type=Call), lost)
        return rules.hand_on(self._router, msgspec.json.decode(message.data, type=Run).task, lost)
