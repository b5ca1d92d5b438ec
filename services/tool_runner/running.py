"""One call while a runner has it, and the room that calls of one tool share."""

from __future__ import annotations

import asyncio
import time
from enum import IntEnum
from typing import Final

from mesh.agents.attempts import Attempt
from mesh.log.head import View
from services.tool_runner.rules import Delivered

AWAY_S: Final = 0.1
BACK_EVERY_S: Final = 0.005


class Halt(IntEnum):
    """Why a call is stopped before it is done; the task's own wish outranks the runner's.

    `LOST`, because another runner has gone on with it: nothing of it counts any more.
    """

    LEAVE = 1
    CANCEL = 2
    LOST = 3


class Running:
    """The one record of a call under way; `waits` says that it has no place in its tool's room yet.

    `begun` is the log as of its newest start, `ticked_at` when its delivery was last kept alive (monotonic).
    """

    def __init__(self, job: Delivered) -> None:
        self.job = job
        self.begun: View | None = None
        self.ticked_at = time.monotonic()
        self.waits = False
        self.halt: Halt | None = None
        self._attempt: Attempt | None = None
        self._halted = asyncio.Event()

    def stop(self, why: Halt) -> None:
        """Cuts off what runs, and begins nothing more."""
        self.halt = max(why, self.halt or why)
        self._halted.set()
        if self._attempt:
            self._attempt.halt()

    def begin(self, attempt: Attempt) -> None:
        """Takes note of an attempt that is about to be made."""
        self._attempt = attempt
        if self.halt:
            attempt.halt()

    async def rest(self, pause_s: float) -> None:
        """Waits between two attempts, not longer than the call goes on."""
        await self._first(None, pause_s)

    async def enter(self, room: Room) -> bool:
        """Waits for a place, to be given back by `leave`; False if the call was stopped before there was one."""
        if not room.full:
            await room.enter()  # at once, so that the next one sees it
            return True
        place = asyncio.create_task(room.enter())
        self.waits = True
        try:
            await self._first(place, None)
            return place.done()
        finally:
            self.waits = False
            place.cancel()

    async def _first(self, other: asyncio.Task[None] | None, timeout_s: float | None) -> None:
        halted = asyncio.create_task(self._halted.wait())
        tasks = (halted, other) if other else (halted,)
        try:
            await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            halted.cancel()


class Room:
    """How many calls of one tool may be made at once; whoever waits here first gets the next place."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._next_back_at = 0.0

    @property
    def full(self) -> bool:
        return self._places.locked()

    async def enter(self) -> None:
        """Waits for a place."""
        await self._places.acquire()

    def leave(self) -> None:
        """Gives a place back."""
        self._places.release()

    def send_away(self) -> float:
        """How long a call is to stay in the queue, in seconds, until it tries again here or elsewhere.

        They come back one after the other: any number of them costs the same, and finds the places as they are given
        back.
        """
        now = time.monotonic()
        self._next_back_at = max(now + AWAY_S, self._next_back_at + BACK_EVERY_S)
        return self._next_back_at - now
