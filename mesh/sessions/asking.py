"""Questions to the session store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from mesh.bus import Bus
from mesh.errors import BusUnavailable, InvalidInput, MeshError, UnknownTask, ViewBehind
from mesh.log.reading import UNKNOWN
from mesh.subjects import Subjects
from schemas import error as codes
from schemas import session
from schemas.envelope import VERSION
from schemas.error import Error
from schemas.instant import rfc3339
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
    SaidMessage,
    TaskDetail,
    TaskRecord,
    TasksAnswer,
    TasksRequest,
)
from schemas.unreadable import UNREADABLE

# An answer that waits for the view takes as long as it may, and some time on its way.
MARGIN_S: Final = 2.0
FIRST_WORD_S: Final = 2.0
# So many logs are purged in that time that nobody waits for more.
DELETE_S: Final = 600.0
W = TypeVar("W", DeleteAnswer, RebuildAnswer)
A = TypeVar("A", GetAnswer, TasksAnswer, HistoryAnswer, ContextsAnswer)


class Page(Struct, frozen=True, kw_only=True):
    """Some tasks, the newest status first, as the log stood at `sequence`."""

    tasks: tuple[TaskRecord, ...]
    sequence: int
    next_page_token: str | None = None


class Talk(Struct, frozen=True, kw_only=True):
    """What was said in a conversation, task by task, as the log stood at `sequence`."""

    messages: tuple[SaidMessage, ...]
    sequence: int
    next_page_token: str | None = None


class SessionStore:
    """Asks whichever store answers."""

    def __init__(self, bus: Bus, names: Subjects) -> None:
        self._bus = bus
        self._names = names

    async def get(self, request: GetRequest) -> TaskDetail:
        """One task; raises UnknownTask."""
        answer = await self._ask("get", request, GetAnswer, request.wait_s)
        if answer.detail is None:
            what = f"submit {request.submit} has no task" if request.submit else f"no task '{request.id}' is known"
            raise UnknownTask(what, hint=UNKNOWN)
        return answer.detail

    async def tasks(self, request: TasksRequest) -> Page:
        """One page of tasks."""
        answer = await self._ask("tasks", request, TasksAnswer, request.wait_s)
        return Page(tasks=answer.tasks, sequence=answer.sequence, next_page_token=answer.next_page_token)

    async def history(self, request: HistoryRequest) -> Talk:
        """One page of what was said."""
        answer = await self._ask("history", request, HistoryAnswer, request.wait_s)
        return Talk(messages=answer.messages, sequence=answer.sequence, next_page_token=answer.next_page_token)

    async def contexts(self, request: ContextsRequest) -> ContextsAnswer:
        """One page of conversations."""
        return await self._ask("contexts", request, ContextsAnswer, request.wait_s)

    async def delete(self, request: DeleteRequest, timeout_s: float = DELETE_S) -> int:
        """Deletes a conversation; how many logs that were.

        One store is enough: what it purges is told in the stream, and every other one forgets when it comes by there.

        Raises: InvalidInput if something still needs them, ViewBehind, BusUnavailable if no store begins, or one that
        began is not heard of again in time.
        """
        ended = [one async for one in self._order("delete", request, DeleteAnswer, timeout_s) if _has_ended(one)]
        if not ended:
            raise BusUnavailable("no session store answers", hint="start one with `mesh service session-store`")
        errors = [one.error for one in ended if one.error is not None]
        if len(errors) == len(ended):
            raise _raised(errors[0])
        return max(one.tasks for one in ended)

    def rebuild(self, timeout_s: float) -> AsyncGenerator[RebuildAnswer]:
        """What the stores say while each builds its view anew; ends when all that began have ended.

        Raises: BusUnavailable if one that began is not heard of again in time.
        """
        return self._order("rebuild", RebuildRequest(v=VERSION), RebuildAnswer, timeout_s)

    async def _order(self, order: str, request: Struct, answer: type[W], timeout_s: float) -> AsyncGenerator[W]:
        """What each store says that carries an order out: first that it begins, last how it ended."""
        said: asyncio.Queue[bytes] = asyncio.Queue()
        reply = self._bus.new_inbox()
        begun: set[str] = set()
        loop = asyncio.get_running_loop()
        first, give_up = loop.time() + FIRST_WORD_S, loop.time() + timeout_s
        async with aclosing(await self._bus.subscribe(reply, lambda message: said.put_nowait(message.data))):
            await self._bus.send(self._names.session(order), _encoded(request), reply=reply)
            while begun or loop.time() < first:
                try:
                    async with asyncio.timeout_at(give_up if begun else first):
                        word = msgspec.json.decode(await said.get(), type=answer)
                except TimeoutError:
                    break
                begun.discard(word.store) if _has_ended(word) else begun.add(word.store)
                if word.state == session.DONE and not begun:
                    # Of one that failed at once the others may not have been heard yet.
                    first = loop.time()
                yield word
        if begun:
            raise BusUnavailable(
                f"not heard of in time: {', '.join(sorted(begun))}", hint="their logs say how far it is"
            )

    async def _ask(self, question: str, request: Struct, answer: type[A], wait_s: float) -> A:
        subject = self._names.session(question)
        try:
            message = await self._bus.request(subject, _encoded(request), timeout_s=wait_s + MARGIN_S)
            found = msgspec.json.decode(message.data, type=answer)
        except UNREADABLE as error:
            raise MeshError(f"the answer of the session store cannot be read: {error}") from error
        except BusUnavailable as error:
            raise BusUnavailable(
                f"no session store answers: {error.message}", hint="start one with `mesh service session-store`"
            ) from error
        if found.error is not None:
            raise _raised(found.error)
        return found


def since_text(since: datetime | float | str | None) -> str | None:
    """A time as the store compares it; a datetime without a zone is refused.

    Raises: InvalidInput.
    """
    if since is None:
        return None
    try:
        if isinstance(since, str):
            since = datetime.fromisoformat(since)
        if isinstance(since, datetime):
            if since.tzinfo is None:
                raise InvalidInput(f"{since} has no time zone", hint="2026-01-02T03:04:05Z")
            since = since.timestamp()
        return rfc3339(since)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidInput(f"{since!r} is no time", hint="2026-01-02T03:04:05Z") from error


def _has_ended(word: DeleteAnswer | RebuildAnswer) -> bool:
    return word.state != session.STARTED


def _encoded(request: Struct) -> bytes:
    return msgspec.json.encode(request)


def _raised(error: Error) -> MeshError:
    kinds: dict[str, Any] = {codes.INVALID_INPUT: InvalidInput, codes.BUS_UNAVAILABLE: ViewBehind}
    kind = kinds.get(error.code, MeshError)
    raised: MeshError = kind(error.message, hint=error.hint)
    return raised
