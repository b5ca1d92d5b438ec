"""Follows one task: rules V1 to V3, one code path for first view and resume.

Live messages come over core NATS and cost the broker no consumer; whatever they missed is read from the stream. A
reader that is slower than its task holds a bounded number of them: past that they are dropped and read again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from mesh.bus import Bus, LiveMessage
from mesh.errors import BusUnavailable, CursorExpired, UnknownTask
from mesh.log.driver import DEPOSED_S, entry_of
from mesh.log.head import Entry
from mesh.log.merge import Merge, TaskEvent
from mesh.log.objects import MeshObjects
from mesh.log.reading import UNKNOWN, read_log
from mesh.log.texts import lacks_text, with_texts
from mesh.subjects import Subjects
from schemas import envelope
from schemas.delta import Delta

IDLE_S: Final = 3.0
UNKNOWN_GRACE_S: Final = 2.0
MAX_HELD: Final = 1000
PAUSE_S: Final = 0.05
BEHIND_PAUSE_S: Final = 0.5
BAD_DELTA: Final = (msgspec.DecodeError, RecursionError, OverflowError, ValueError, OSError)
_delta = msgspec.json.Decoder(Delta)


class Tail:
    """One reader of one task; `async for` over `events()`.

    With `wait` a task without a log is waited for; otherwise it is unknown after a short grace. Without `ahead` text
    comes from the log alone, which is enough for a reader that only wants the end.
    """

    def __init__(
        self, bus: Bus, names: Subjects, task: str, *, cursor: str | None = None, wait: bool = False, ahead: bool = True
    ) -> None:
        self._bus = bus
        self._names = names
        self._task = task
        self._wait = wait
        self._ahead = ahead
        self._from_cursor = cursor is not None
        self._merge = Merge(cursor)
        self._live: deque[LiveMessage] = deque()
        self._woken = asyncio.Event()
        self._gap = True
        self._known = False
        self._behind_since = 0.0

    async def events(self) -> AsyncGenerator[TaskEvent]:
        """Every event from the cursor on, until after the terminal one.

        Raises: UnknownTask, CursorExpired, ArtifactMissing for a model's large answer that is gone, BusUnavailable
        where the first read fails; a broker that is lost later is waited for.
        """
        async with AsyncExitStack() as stack:
            subjects = [self._names.log(self._task)]
            if self._ahead:
                subjects.append(self._names.delta(self._task))
            for subject in subjects:
                live = await self._bus.subscribe(subject, self._take, on_gap=self._miss)
                stack.push_async_callback(live.aclose)
            while not self._merge.ended:
                for event in await self._next():
                    yield event

    def _take(self, message: LiveMessage) -> None:
        if len(self._live) >= MAX_HELD:
            self._live.clear()
            self._gap = True
        else:
            self._live.append(message)
        self._woken.set()

    def _miss(self) -> None:
        self._gap = True
        self._woken.set()

    async def _next(self) -> list[TaskEvent]:
        if self._gap:
            return await self._fill_gap()
        if not self._live:
            self._woken.clear()
            try:
                async with asyncio.timeout(IDLE_S):
                    await self._woken.wait()
            except TimeoutError:
                self._gap = True
            return []
        out: list[TaskEvent] = []
        while self._live and not self._gap:
            out.extend(self._merge_one(self._live.popleft()))
        return out

    def _merge_one(self, message: LiveMessage) -> list[TaskEvent]:
        if not message.seq:
            try:
                return self._merge.delta(_delta.decode(message.data))
            except BAD_DELTA:
                return []
        if message.last_seq > self._merge.seq:
            self._live.appendleft(message)
            self._gap = True
            return []
        entry = Entry(message.seq, envelope.decode(message.data))
        if entry.seq > self._merge.seq and lacks_text(entry):
            self._live.appendleft(message)
            self._gap = True
            return []
        return self._merge.commit(entry)

    async def _fill_gap(self) -> list[TaskEvent]:
        self._gap = False
        try:
            return await self._catch_up()
        except BusUnavailable:
            if not self._known and not self._wait:
                raise
            self._gap = True
            await self._bus.wait_connected()
            await asyncio.sleep(PAUSE_S)
            return []
        except CursorExpired:
            if not await self._broker_is_behind():
                raise
            self._gap = True
            await asyncio.sleep(BEHIND_PAUSE_S)
            return []

    async def _broker_is_behind(self) -> bool:
        """Whether who answers for the log has less than this tail has seen.

        A leader that was cut off from its cluster does not know for some seconds that it is none any more. If it lasts
        longer, the stream is another one.
        """
        now = asyncio.get_running_loop().time()
        self._behind_since = self._behind_since or now
        if now - self._behind_since > DEPOSED_S:
            return False
        try:
            return await self._bus.last_sequence(self._names.tasks) < self._merge.seq
        except BusUnavailable:
            return True

    async def _catch_up(self) -> list[TaskEvent]:
        """Reads what is missing; the newest commit comes from the leader, the rest up to it from anywhere (V2, V3)."""
        subject = self._names.task(self._task)
        newest = await self._newest(subject)
        if newest is None:
            return []
        self._known = True
        if newest.seq < self._merge.seq:
            raise CursorExpired(f"the log of task '{self._task}' is another one now", hint="start from the beginning")
        self._behind_since = 0.0
        entries = [newest]
        if newest.seq > self._merge.seq and newest.commit.n > 0:
            first = max(newest.commit.first, self._merge.seq + 1)
            stored = await self._bus.read(self._names.tasks, subject, first=first, expected=newest.commit.n)
            if not stored or stored[-1].seq < newest.seq:
                stored = await self._bus.read(self._names.tasks, subject, first=first, leader=True)
            entries = [entry_of(message) for message in stored]
            if not self._merge.seq and (not entries or entries[0].commit.n):
                # Restored from another mesh: the sequence that its commits name as the first is one of that.
                entries = await read_log(self._bus, self._names, self._task)
        objects = MeshObjects(self._bus, self._names)
        whole = [await with_texts(entry, objects) for entry in entries]
        out = [event for entry in whole for event in self._merge.commit(entry)]
        return out if self._merge.ended or not self._ahead else out + await self._cached_deltas()

    async def _newest(self, subject: str) -> Entry | None:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + UNKNOWN_GRACE_S
        while True:
            message = await self._bus.newest(self._names.tasks, subject, leader=True)
            if message is not None:
                return entry_of(message)
            if self._known or self._from_cursor:
                raise CursorExpired(f"the log of task '{self._task}' is gone", hint="it was purged after its keep_s")
            if self._wait or self._live:
                return None
            if loop.time() > give_up:
                raise UnknownTask(f"no task '{self._task}' is known", hint=UNKNOWN)
            await asyncio.sleep(PAUSE_S)

    async def _cached_deltas(self) -> list[TaskEvent]:
        """Text on its way that was sent before this reader came; a cache, so its loss is no error."""
        subject = self._names.delta(self._task)
        try:
            newest = await self._bus.newest(self._names.deltas, subject)
            if newest is None:
                return []
            out = self._merge.delta(_delta.decode(newest.data))
            if self._merge.missing:
                self._merge.forget_held()
                for message in await self._bus.read(self._names.deltas, subject, first=1):
                    out.extend(self._merge.delta(_delta.decode(message.data)))
                self._merge.forget_held()
        except (BusUnavailable, *BAD_DELTA):
            return []
        return out
