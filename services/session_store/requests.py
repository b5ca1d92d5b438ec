"""Questions that come over NATS: each is read, waited for as long as it asks, answered once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct
from sqlalchemy import Connection

from mesh.bus import Bus, LiveMessage, LiveSubscription
from mesh.errors import InvalidInput, MeshError
from mesh.subjects import Subjects, is_inbox
from schemas import session
from schemas.envelope import VERSION
from schemas.ids import is_task_id
from schemas.session import (
    ContextsAnswer,
    ContextsRequest,
    GetAnswer,
    GetRequest,
    HistoryAnswer,
    HistoryRequest,
    TasksAnswer,
    TasksRequest,
)
from schemas.unreadable import UNREADABLE
from services.session_store import contexts, queries, views
from services.session_store.book import Book, Question
from services.session_store.database import READERS, Database
from services.session_store.orders import Orders, as_mesh_error
from services.session_store.waiting import LATER, Busy, Waiting

MAX_ANSWERING: Final = 1_000
# Who asked has given up by then.
LATE_S: Final = 2.0
QUEUE: Final = "session-store"
REBUILD: Final = "rebuild"
DELETE: Final = "delete"
log = structlog.get_logger("mesh.session_store")
_KINDS: Final[dict[str, tuple[type[Struct], type[Struct], Callable[..., Any]]]] = {
    "get": (GetRequest, GetAnswer, queries.get),
    "tasks": (TasksRequest, TasksAnswer, queries.tasks_like),
    "history": (HistoryRequest, HistoryAnswer, queries.history),
    "contexts": (ContextsRequest, ContextsAnswer, contexts.contexts),
}


class Requests:
    """Listens for as long as it serves; each question is a task of its own, and there are no more than the book has."""

    def __init__(self, bus: Bus, names: Subjects, database: Database, waiting: Waiting, orders: Orders) -> None:
        self.book = Book(
            {kind: (names.session(kind), QUEUE) for kind in _KINDS}
            | {order: (names.session(order), "") for order in (REBUILD, DELETE)},
            limit=MAX_ANSWERING,
        )
        self._bus = bus
        self._names = names
        self._database = database
        self._waiting = waiting
        self._orders = {REBUILD: orders.rebuild, DELETE: orders.delete}
        self._reading = asyncio.Semaphore(READERS)
        self._asked: asyncio.Queue[tuple[str, LiveMessage]] = asyncio.Queue()
        self._answering: set[asyncio.Task[None]] = set()
        self._listening: list[LiveSubscription] = []

    async def listen(self) -> None:
        """Subscribes: one store answers each question, all of them rebuild and delete."""
        for endpoint in self.book.endpoints():
            taking = self._bus.subscribe(endpoint.subject, self._taker(endpoint.name), queue=endpoint.queue_group)
            self._listening.append(await taking)

    async def finish(self, within_s: float) -> None:
        """Takes no more questions, and gives those that are being answered this time."""
        while self._listening:
            await self._listening.pop().drain()
        await self._asked.join()
        if self._answering:
            await asyncio.wait(self._answering, timeout=within_s)

    async def serve(self) -> None:
        """Answers for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                kind, message = await self._asked.get()
                task = group.create_task(self._handle(kind, message))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
                self._asked.task_done()

    def _taker(self, kind: str) -> Callable[[LiveMessage], None]:
        def take(message: LiveMessage) -> None:
            if is_inbox(message.reply):
                self._asked.put_nowait((kind, message))

        return take

    async def _handle(self, kind: str, message: LiveMessage) -> None:
        at_work = len(self.book) - len(self._waiting)
        refused = Busy(f"the session store has {at_work} questions in hand", hint=LATER)
        question = self.book.open(kind)
        error: MeshError | None = None if at_work < self.book.limit else refused
        try:
            if kind in self._orders:
                error = await self._orders[kind](message, error)
            else:
                error = await self._answer(message, question, error)
        finally:
            self.book.close(question, error)

    async def _answer(self, message: LiveMessage, question: Question, error: MeshError | None) -> MeshError | None:
        """Answers, at once if there is an error; what went wrong."""
        request_type, answer_type, query = _KINDS[question.kind]
        answer: Any = None
        if error is None:
            try:
                request = msgspec.json.decode(message.data or b'{"v":1}', type=request_type)
                answer = await self._found(request, query, question)
            except (*UNREADABLE, MeshError) as wrong:
                error = as_mesh_error(wrong)
            except Exception:  # one question must not end the answering of all others
                log.exception("a question failed", kind=question.kind)
                error = MeshError("the session store could not answer this", hint="its log says why")
        if error is not None:
            answer = answer_type(v=VERSION, error=error.to_error())
        await self._bus.send(message.reply, msgspec.json.encode(answer))
        return error

    async def _found(self, request: Any, query: Callable[..., Any], question: Question) -> Any:
        wait_s = min(max(request.wait_s, 0.0), session.MAX_WAIT_S)
        if isinstance(request, GetRequest) and not request.submit and not is_task_id(request.id):
            raise InvalidInput(f"'{request.id[:100]}' is no task id", hint="give `id`, or `submit`")
        give_up = asyncio.get_running_loop().time() + wait_s
        answer = await self._read(request.sequence, query, request, give_up, question)
        if isinstance(answer, GetAnswer) and answer.detail is None and not request.submit:
            # Who asks right after a submit must not hear that there is no such task.
            newest = await self._bus.newest(self._names.tasks, self._names.task(request.id), leader=True)
            if newest is not None and newest.seq > answer.sequence:
                answer = await self._read(newest.seq, query, request, give_up, question)
        return answer

    async def _read(
        self, sequence: int, query: Callable[..., Any], request: Any, give_up: float, question: Question
    ) -> Any:
        """An answer out of a view that shows the log up to there; none for those who do not wait for it any more.

        Most find it so: they are answered in the transaction that looks.
        """
        while True:
            async with self._reading:
                if asyncio.get_running_loop().time() > give_up + LATE_S:
                    raise Busy("the session store came to this question too late", hint=LATER)
                answer = await self._database.read(_if_shown, sequence, query, request)
            if answer is not None:
                return answer
            began = time.monotonic()
            try:
                await self._waiting.reach(sequence, give_up)
            finally:
                question.waited_s += time.monotonic() - began


def _if_shown(connection: Connection, sequence: int, query: Callable[..., Any], request: Any) -> Any:
    """The answer, if the view shows the log up to there."""
    view = views.current(connection)
    return query(connection, request) if view is not None and view.shows(sequence) else None
