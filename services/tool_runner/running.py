"""One call while its tool runs, and the room that calls of one tool share."""

from __future__ import annotations

import asyncio
from enum import IntEnum

from mesh.agents.attempts import Attempt
from services.tool_runner.rules import Delivered


class Halt(IntEnum):
    """Why a call is stopped before it is done; the task's own wish outranks the runner's."""

    LEAVE = 1
    CANCEL = 2


class Running:
    """The one record of a call under way."""

    def __init__(self, job: Delivered) -> None:
        self.job = job
        self.halt: Halt | None = None
        self._attempt: Attempt | None = None
        self._halted = asyncio.Event()

    def stop(self, why: Halt) -> None:
        """Cuts off what runs, and begins nothing more."""
        self.halt = max(why, self.halt or why)
        self._halted.set()
        if self._attempt:
            self._attempt.halt()

    def begin(self, attempt: Attempt) -> Attempt:
        """Takes note of an attempt that is about to be made."""
        self._attempt = attempt
        if self.halt:
            attempt.halt()
        return attempt

    async def rest(self, pause_s: float) -> None:
        """Waits between two attempts, not longer than the call goes on."""
        waiting = asyncio.create_task(self._halted.wait())
        try:
            await asyncio.wait((waiting,), timeout=pause_s)
        finally:
            waiting.cancel()


class Room:
    """How many calls of one tool may be made at once; whoever waits when it is closed gets no place."""

    def __init__(self, places: int) -> None:
        self._places = asyncio.Semaphore(places)
        self._closed = asyncio.Event()

    def close(self) -> None:
        """Sends away who waits and who comes later."""
        self._closed.set()

    async def enter(self) -> bool:
        """Takes a place, to be given back by `leave`; False if there will be none."""
        if self._closed.is_set():
            return False
        if not self._places.locked():
            return await self._places.acquire()
        place = asyncio.create_task(self._places.acquire())
        closing = asyncio.create_task(self._closed.wait())
        try:
            await asyncio.wait((place, closing), return_when=asyncio.FIRST_COMPLETED)
            if place.done():
                return True
        finally:
            closing.cancel()
            place.cancel()
        return False

    def leave(self) -> None:
        """Gives a place back."""
        self._places.release()
