"""Questions that wait for the view to come to a sequence: one look at the database serves all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, TypeVar

from mesh.errors import BusUnavailable, MeshError, ViewBehind
from services.session_store import views
from services.session_store.database import Database
from services.session_store.keeper import Keeper
from services.session_store.views import View

MAX_WAITING: Final = 1_000
LOOK_S: Final = 0.02
CHECK_EVERY: Final = 10
T = TypeVar("T")
LATER: Final = "ask again in a moment; more stores answer more: mesh service session-store"


class Busy(BusUnavailable):
    """There are as many questions in hand as a store takes."""


class Waiting:
    """Knows how far the view is; `serve` looks for all who want to know, `limit` of them at the most."""

    def __init__(self, database: Database, keeper: Keeper, *, limit: int = MAX_WAITING) -> None:
        self._database = database
        self._keeper = keeper
        self._limit = limit
        self._looking: list[asyncio.Future[View | None]] = []
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._look = asyncio.Event()
        self._wait = asyncio.Event()

    def __len__(self) -> int:
        """How many wait for the view to move on."""
        return len(self._waiting)

    async def reach(self, sequence: int, give_up: float) -> None:
        """Returns when the view shows the log up to there.

        Raises: ViewBehind at the time `give_up` of the loop; Busy at once if too many wait; DatabaseUnavailable.
        """
        view = await self._view()
        if view is not None and view.shows(sequence):
            return
        if len(self._waiting) >= self._limit:
            raise Busy(f"{len(self._waiting)} questions wait already for what the view does not show yet", hint=LATER)
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[reached] = sequence
        self._wait.set()
        try:
            async with asyncio.timeout_at(give_up):
                await reached
        except TimeoutError:
            raise _behind(await self._view(), sequence) from None
        finally:
            del self._waiting[reached]

    async def serve(self) -> None:
        """Looks for ever, for as long as anybody wants to know."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell())
            group.create_task(self._follow())

    async def _view(self) -> View | None:
        """The view as it stands at a look that begins after this call."""
        looked: asyncio.Future[View | None] = asyncio.get_running_loop().create_future()
        self._looking.append(looked)
        self._look.set()
        return await looked

    async def _tell(self) -> None:
        while True:
            await self._look.wait()
            self._look.clear()
            looking, self._looking = self._looking, []
            try:
                view = await self._database.read(views.current)
            except MeshError as error:
                for one in _undone(looking):
                    one.set_exception(error)
            else:
                for one in _undone(looking):
                    one.set_result(view)

    async def _follow(self) -> None:
        """Looks again whenever the view moves in this process, and now and then in case it does in another one."""
        looks = 0
        while True:
            if not self._waiting:
                self._wait.clear()
                await self._wait.wait()
            await self._keeper.moved(LOOK_S)
            looks += 1
            with suppress(MeshError):
                if not looks % CHECK_EVERY:
                    # The newest commits may have been purged before they were read; then nothing more comes.
                    await self._keeper.check()
                view = await self._view()
                for reached in _undone(self._waiting):
                    if view is not None and view.shows(self._waiting[reached]):
                        reached.set_result(None)


def _undone(futures: Iterable[asyncio.Future[T]]) -> list[asyncio.Future[T]]:
    """Without those that somebody no longer waits for."""
    return [one for one in futures if not one.done()]


def _behind(view: View | None, sequence: int) -> ViewBehind:
    at = f"at sequence {view.seq}" if view is not None and view.complete else "still being built"
    return ViewBehind(f"the session store is {at}, and {sequence} was asked for", hint="ask again")
