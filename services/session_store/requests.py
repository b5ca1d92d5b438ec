"""Questions that come over NATS: each is read, waited for as long as it asks, answered once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct

from mesh.bus import Bus, LiveMessage, Subscription
from mesh.errors import BusUnavailable, InvalidInput, MeshError, ViewBehind
from mesh.subjects import Subjects, is_inbox
from schemas import session
from schemas.envelope import VERSION
from schemas.ids import is_task_id
from schemas.session import (
    ContextsAnswer,
    ContextsRequest,
    DeleteAnswer,
    DeleteRequest,
    GetAnswer,
    GetRequest,
    HistoryAnswer,
    HistoryRequest,
    RebuildAnswer,
    RebuildRequest,
    TasksAnswer,
    TasksRequest,
)
from services.session_store import contexts, queries, views
from services.session_store.database import Database
from services.session_store.keeper import Keeper
from services.session_store.retention import Retention

MAX_WAITING: Final = 1_000
LOOK_S: Final = 0.05
CHECK_AFTER: Final = 4
QUEUE: Final = "session-store"
REBUILD: Final = "rebuild"
DELETE: Final = "delete"
MAX_NAMED: Final = 10
log = structlog.get_logger("mesh.session_store")
_KINDS: Final[dict[str, tuple[type[Struct], type[Struct], Callable[..., Any]]]] = {
    "get": (GetRequest, GetAnswer, queries.get),
    "tasks": (TasksRequest, TasksAnswer, queries.tasks_like),
    "history": (HistoryRequest, HistoryAnswer, queries.history),
    "contexts": (ContextsRequest, ContextsAnswer, contexts.contexts),
}


class Requests:
    """Listens for as long as it serves; each question is a task of its own."""

    def __init__(
        self, bus: Bus, names: Subjects, database: Database, keeper: Keeper, retention: Retention, name: str
    ) -> None:
        self._bus = bus
        self._names = names
        self._database = database
        self._keeper = keeper
        self._retention = retention
        self._name = name
        self._asked: asyncio.Queue[tuple[str, LiveMessage]] = asyncio.Queue(MAX_WAITING)
        self._answering: set[asyncio.Task[None]] = set()
        self._listening: list[Subscription] = []

    async def listen(self) -> None:
        """Subscribes: one store answers each question, all of them rebuild and delete."""
        for kind in _KINDS:
            self._listening.append(await self._bus.subscribe(self._names.session(kind), self._taker(kind), queue=QUEUE))
        for order in (REBUILD, DELETE):
            self._listening.append(await self._bus.subscribe(self._names.session(order), self._taker(order)))

    async def finish(self, within_s: float) -> None:
        """Takes no more questions, and gives those that are being answered this time."""
        while self._listening:
            await self._listening.pop().aclose()
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

    async def _handle(self, kind: str, message: LiveMessage) -> None:
        if kind == REBUILD:
            await self._rebuild(message)
        elif kind == DELETE:
            await self._delete(message)
        else:
            await self._answer(kind, message)

    def _taker(self, kind: str) -> Callable[[LiveMessage], None]:
        def take(message: LiveMessage) -> None:
            if is_inbox(message.reply):
                try:
                    self._asked.put_nowait((kind, message))
                except asyncio.QueueFull:
                    log.warning("a question is dropped: too many wait", kind=kind)

        return take

    async def _answer(self, kind: str, message: LiveMessage) -> None:
        request_type, answer_type, query = _KINDS[kind]
        try:
            request: Any = msgspec.json.decode(message.data or b'{"v":1}', type=request_type)
            answer = await self._found(request, query)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            answer = answer_type(v=VERSION, error=InvalidInput(f"the question cannot be read: {error}").to_error())
        except MeshError as error:
            answer = answer_type(v=VERSION, error=error.to_error())
        except Exception:  # one question must not end the answering of all others
            log.exception("a question failed", kind=kind)
            failed = MeshError("the session store could not answer this", hint="its log says why")
            answer = answer_type(v=VERSION, error=failed.to_error())
        await self._bus.send(message.reply, msgspec.json.encode(answer))

    async def _found(self, request: Any, query: Callable[..., Any]) -> Any:
        wait_s = min(max(request.wait_s, 0.0), session.MAX_WAIT_S)
        if isinstance(request, GetRequest) and not request.submit and not is_task_id(request.id):
            raise InvalidInput(f"'{request.id[:100]}' is no task id", hint="give `id`, or `submit`")
        give_up = asyncio.get_running_loop().time() + wait_s
        await self._reach(request.sequence, give_up)
        answer = await self._database.read(query, request)
        if isinstance(answer, GetAnswer) and answer.detail is None and not request.submit:
            # Who asks right after a submit must not hear that there is no such task.
            newest = await self._bus.newest(self._names.tasks, self._names.task(request.id), leader=True)
            if newest is not None and newest.seq > answer.sequence:
                await self._reach(newest.seq, give_up)
                answer = await self._database.read(query, request)
        return answer

    async def _reach(self, sequence: int, give_up: float) -> None:
        """Waits until the view shows the log up to there; raises ViewBehind."""
        looks = 0
        while True:
            view = await self._database.read(views.current)
            if view is not None and view.complete and view.seq >= sequence:
                return
            left_s = give_up - asyncio.get_running_loop().time()
            if left_s <= 0:
                at = f"at sequence {view.seq}" if view is not None and view.complete else "still being built"
                raise ViewBehind(f"the session store is {at}, and {sequence} was asked for", hint="ask again")
            looks += 1
            if looks == CHECK_AFTER:
                # The newest commits may have been purged before they were read; then nothing more comes.
                await self._check()
            await self._keeper.moved(min(left_s, LOOK_S))

    async def _check(self) -> None:
        try:
            await self._keeper.check()
        except BusUnavailable as error:
            log.debug("the stream cannot be asked", error=str(error))

    async def _rebuild(self, message: LiveMessage) -> None:
        if not self._keeper.holds:
            return
        await self._say(message, session.STARTED)
        try:
            msgspec.json.decode(message.data, type=RebuildRequest)
            view = await self._keeper.rebuild()
            tasks = await self._database.read(views.count, view.number)
        except (msgspec.DecodeError, MeshError) as error:
            log.warning("the view was not built anew", error=str(error))
            failed = error if isinstance(error, MeshError) else InvalidInput(f"the request cannot be read: {error}")
            await self._say(message, session.FAILED, error=failed.to_error())
        else:
            await self._say(message, session.DONE, sequence=view.seq, tasks=tasks)

    async def _delete(self, message: LiveMessage) -> None:
        if not self._keeper.holds:
            return
        deleted, error = 0, None
        try:
            request = msgspec.json.decode(message.data, type=DeleteRequest)
            wait_s = min(max(request.wait_s, 0.0), session.MAX_WAIT_S)
            await self._reach(request.sequence, asyncio.get_running_loop().time() + wait_s)
            found = await self._database.read(contexts.belongings, request.context_id, request.owner)
            if len(found.owners) > 1:
                raise InvalidInput(f"its tasks are of {len(found.owners)} owners", hint="name one: --owner OWNER")
            if not await self._retention.current():
                raise BusUnavailable("the view does not show all that the log holds yet")
            if found.needed_by:
                raise InvalidInput(f"its logs are still needed by {', '.join(found.needed_by[:MAX_NAMED])}")
            await self._retention.purge(found.tasks)
            deleted = len(found.tasks)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as wrong:
            error = InvalidInput(f"the request cannot be read: {wrong}").to_error()
        except MeshError as failed:
            error = failed.to_error()
        answer = DeleteAnswer(v=VERSION, store=self._shown, tasks=deleted, error=error)
        await self._bus.send(message.reply, msgspec.json.encode(answer))

    @property
    def _shown(self) -> str:
        return f"{self._name} ({self._database.shown})"

    async def _say(self, message: LiveMessage, state: str, **more: Any) -> None:
        answer = RebuildAnswer(v=VERSION, store=self._shown, state=state, **more)
        await self._bus.send(message.reply, msgspec.json.encode(answer))
