"""What one worker is asked and told by name, on `mesh.worker.<name>`.

It hears and answers on the connection by which it commits: who can commit can answer, and who cannot should not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import msgspec
import structlog

from mesh.bus import Bus, LiveMessage
from mesh.errors import PermissionDenied
from mesh.subjects import is_inbox
from schemas import worker
from schemas.unreadable import UNREADABLE
from schemas.worker import WorkerAnswer, WorkerRequest

log = structlog.get_logger("mesh.worker")


class Questions:
    """Answers whether a delivery is still worked on, and takes the order to leave."""

    def __init__(
        self,
        bus: Bus,
        subject: str,
        name: str,
        *,
        holds: Callable[[int, int], bool],
        drain: Callable[[float | None], None],
    ) -> None:
        self._bus = bus
        self._subject = subject
        self._name = name
        self._holds = holds
        self._drain = drain
        self._asked: asyncio.Queue[LiveMessage] = asyncio.Queue()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hears what is asked while the block runs; a worker that may not hear it serves all the same."""
        try:
            subscription = await self._bus.take_requests(self._subject, self._asked.put_nowait)
        except PermissionDenied:
            log.warning(
                "this worker cannot be asked what it holds, nor told to drain", worker=self._name,
                hint=f"allow its user to subscribe to {self._subject}; what it is slow with may be taken over",
            )  # fmt: skip
            yield
        else:
            async with aclosing(subscription):
                yield

    async def serve(self) -> None:
        """Answers for ever."""
        while True:
            message = await self._asked.get()
            answer = self._answer(message.data)
            if is_inbox(message.reply):
                await self._bus.answer(message, msgspec.json.encode(answer))

    def _answer(self, body: bytes) -> WorkerAnswer:
        try:
            request = msgspec.json.decode(body, type=WorkerRequest)
        except UNREADABLE as error:
            return WorkerAnswer(worker=self._name, error=f"this request cannot be read: {error}")
        if request.kind == worker.HOLDS:
            return WorkerAnswer(worker=self._name, holds=self._holds(request.seq, request.delivery))
        if request.kind == worker.DRAIN:
            log.info("told to drain", worker=self._name)
            self._drain(request.within_s)
            return WorkerAnswer(worker=self._name, draining=True)
        return WorkerAnswer(worker=self._name, error=f"'{request.kind[:64]}' is nothing a worker is asked")
