"""How a store is: how far its view is behind the log, and why."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from typing import Final

from msgspec import Struct

from mesh.bus import Bus
from mesh.errors import MeshError
from mesh.subjects import Subjects
from mesh.worker.condition import Condition
from mesh.worker.health import STALE_S, Health
from schemas.instant import rfc3339
from services.session_store import views
from services.session_store.book import Book
from services.session_store.database import Database
from services.session_store.keeper import Keeper
from services.session_store.views import View
from services.session_store.waiting import Waiting

LOOK_S: Final = 1.0
REMEMBERED: Final = 3_600
SEE_TO_IT: Final = "see to that database: it goes on by itself"


class Seen(Struct, frozen=True, kw_only=True):
    """What was seen of a store.

    Its view has not moved for `still_s`; `behind_s` ago the log went past where it is now.
    """

    role: str = "writing"
    sequence: int = 0
    last: int = 0
    complete: bool = True
    still_s: float = 0.0
    behind_s: float = 0.0
    unusable: str = ""
    unusable_s: float = 0.0
    problem: str = ""
    refused_s: float = float("inf")


def judge(seen: Seen) -> Health:
    """The worst that is to be said."""
    at, last = f"{seen.sequence:,}", f"{seen.last:,}"
    why = f": {seen.problem}" if seen.problem else ""
    if seen.unusable:
        return Health("stuck" if seen.unusable_s > STALE_S else "busy", seen.unusable)
    if min(seen.still_s, seen.behind_s) > STALE_S:
        return Health("stuck", f"its view has stood at {at} for {seen.still_s:.0f} s, and the log is at {last}{why}")
    if not seen.complete:
        return Health("busy", f"its view is being built: at {at} of {last}{why}")
    if seen.refused_s < STALE_S:
        return Health("busy", "more is asked than it answers, so some questions are refused")
    if seen.behind_s > STALE_S:
        behind = f"{seen.last - seen.sequence:,} commits and {seen.behind_s:.0f} s"
        return Health("busy", f"its view is {behind} behind the log{why}")
    return Health()


class Lookout:
    """Looks at the database and the stream once a second, and tells what was seen."""

    def __init__(
        self, bus: Bus, names: Subjects, database: Database, keeper: Keeper, book: Book, waiting: Waiting
    ) -> None:
        self._bus = bus
        self._names = names
        self._database = database
        self._keeper = keeper
        self._book = book
        self._waiting = waiting
        self._view: View | None = None
        self._last = 0
        self._moved_at = time.monotonic()
        self._unusable, self._usable_at = "", time.monotonic()
        self._ahead: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)

    async def serve(self) -> None:
        """Looks for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Looks now."""
        await self._look_at_view()
        await self._look_at_log()

    def condition(self) -> Condition:
        """What it was like at the last look."""
        seen = self._seen()
        metadata = {
            "role": seen.role,
            "view": "built" if seen.complete else "being built",
            "sequence": str(seen.sequence),
            "lag": str(max(0, seen.last - seen.sequence)),
            "behind_s": f"{seen.behind_s:.0f}",
            "last_progress": rfc3339(time.time() - seen.still_s),
            "in_hand": str(len(self._book)),
            "waiting": str(len(self._waiting)),
            "cure": SEE_TO_IT if seen.unusable else "",
        }
        return Condition(health=judge(seen), metadata=metadata, endpoints=self._book.endpoints())

    def _seen(self) -> Seen:
        now, view = time.monotonic(), self._view
        return Seen(
            role=self._keeper.role, sequence=view.seq if view is not None else 0, last=self._last,
            complete=view is not None and view.complete, still_s=now - self._moved_at,
            behind_s=now - self._ahead[0][0] if self._ahead else 0.0,
            unusable=self._unusable, unusable_s=now - self._usable_at, problem=self._keeper.problem,
            refused_s=now - self._book.refused_at,
        )  # fmt: skip

    async def _look_at_view(self) -> None:
        try:
            async with asyncio.timeout(STALE_S):
                view = await self._database.read(views.current)
        except TimeoutError:
            self._unusable = f"the database {self._database.shown} has not answered for {STALE_S:.0f} s"
        except MeshError as error:
            # Before it has begun its tables may not be there.
            self._unusable = error.message if self._keeper.begun or self._keeper.problem else ""
        else:
            self._unusable, self._usable_at = "", time.monotonic()
            if view != self._view:
                self._view, self._moved_at = view, time.monotonic()

    async def _look_at_log(self) -> None:
        shown = self._view.seq if self._view is not None else 0
        with suppress(MeshError):
            self._last = await self._bus.last_sequence(self._names.tasks)
            self._ahead.append((time.monotonic(), self._last))
            if shown < self._last:
                # The newest commits may have been purged before they were read; then nothing more comes.
                await self._keeper.check()
        while self._ahead and self._ahead[0][1] <= shown:
            self._ahead.popleft()
