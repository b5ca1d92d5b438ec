"""What was said before in the conversation that a task goes on with: in which tasks, and in which words."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from mesh.errors import BusUnavailable, UnknownTask, ViewBehind
from mesh.log.driver import Driver
from mesh.log.head import Entry
from mesh.log.large import restore
from mesh.log.ops import Read, ReadFirst
from mesh.sessions import Page, SessionStore
from schemas.envelope import VERSION
from schemas.message import ASSISTANT, TEXT, Message, Part, user_message
from schemas.session import MAX_LIMIT, TaskRecord, TasksRequest
from schemas.task import TaskAccepted, TaskCompleted

STEP_NAME: Final = "history"
MAX_TASKS: Final = 50
PATIENCE_S: Final = 10.0
ANSWER_S: Final = 3.0
PAUSE_S: Final = 0.2


class Past(Protocol):
    """The tasks before this one in its conversation."""

    async def tasks(self, max_tasks: int) -> list[str]:
        """Those that have ended, the oldest first; of more than `max_tasks` the ones that ended last."""
        ...

    async def messages(self, tasks: Sequence[str]) -> list[Message]:
        """What was said in these tasks; the same at any time, because their logs have ended."""
        ...


class LoggedPast:
    """Which tasks, by a session store that has seen this task accepted; what was said, by their logs."""

    def __init__(self, driver: Driver, accepted: TaskAccepted, first: int) -> None:
        self._driver = driver
        self._accepted = accepted
        self._first = first

    async def tasks(self, max_tasks: int) -> list[str]:
        """As `Past.tasks`; raises BusUnavailable if no session store answers, or none comes so far in time."""
        found: list[TaskRecord] = []
        request = TasksRequest(
            v=VERSION, context_id=self._accepted.context_id, owner=self._accepted.owner, limit=MAX_LIMIT,
            sequence=self._first, wait_s=ANSWER_S,
        )  # fmt: skip
        while len(found) < max_tasks:
            page = await self._page(request)
            found += [one for one in page.tasks if self._is_before(one)]
            if page.next_page_token is None:
                break
            request = msgspec.structs.replace(request, page_token=page.next_page_token)
        return [one.id for one in sorted(found[:max_tasks], key=lambda one: one.first)]

    async def messages(self, tasks: Sequence[str]) -> list[Message]:
        """As `Past.messages`; raises UnknownTask for a log that is gone."""
        async with asyncio.TaskGroup() as group:
            reading = [group.create_task(self._said(task)) for task in tasks]
        return [message for one in reading for message in one.result()]

    def _is_before(self, one: TaskRecord) -> bool:
        """One that was rejected never had its say."""
        return one.phase == "ended" and one.state != "rejected" and 0 < one.first < self._first

    async def _said(self, task: str) -> list[Message]:
        newest: Entry | None = await self._driver.answer(Read(task))
        opening: Entry | None = None
        if newest is not None:
            opening = await self._driver.answer(ReadFirst(task, newest.commit.first or newest.seq))
        if newest is None or opening is None:
            raise UnknownTask(
                f"task '{task}', which this conversation goes on from, is gone",
                hint="its log was purged; a conversation needs the logs of its tasks",
            )
        said: list[Message] = []
        for data in (opening.commit.events[0].data, newest.commit.events[-1].data):
            if isinstance(data, TaskAccepted):
                said.append(user_message(in_words((await restore(data, self._driver.objects)).input)))
            elif isinstance(data, TaskCompleted):
                output = in_words((await restore(data, self._driver.objects)).output)
                said.append(Message(role=ASSISTANT, parts=(Part(kind=TEXT, text=output),)))
        return said

    async def _page(self, request: TasksRequest) -> Page:
        """One page; a broker that is away is waited for, a session store for some seconds."""
        bus, now = self._driver.bus, asyncio.get_running_loop().time
        store = SessionStore(bus, self._driver.names)
        give_up = now() + PATIENCE_S
        while True:
            try:
                return await store.tasks(request)
            except (BusUnavailable, ViewBehind) as error:
                if not bus.connected:
                    await bus.wait_connected()
                    give_up = now() + PATIENCE_S
                elif now() > give_up:
                    raise BusUnavailable(
                        f"what was said before in this conversation cannot be found out: {error.message}",
                        hint="start one with `mesh service session-store`, then submit the task again",
                    ) from error
            await asyncio.sleep(PAUSE_S)


def in_words(value: Any) -> str:
    """An input or an output as a model reads it."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
