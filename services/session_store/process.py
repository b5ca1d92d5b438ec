"""The session store as a process: keeps the view up, answers, purges."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from mesh.service import ServiceConfig
from mesh.worker import Condition, Crew
from services.session_store.database import Database
from services.session_store.health import Lookout
from services.session_store.keeper import Keeper
from services.session_store.orders import Orders
from services.session_store.requests import Requests
from services.session_store.retention import Ages, Retention
from services.session_store.waiting import Waiting

VARIABLE: Final = "MESH_DATABASE"
DEFAULT: Final = "sqlite:///.mesh/sessions.db"
READY_S: Final = 0.05
LAST_ANSWERS_S: Final = 2.0


class SessionStoreService:
    """Any number of these, each with its own SQLite file or several on one PostgreSQL."""

    def __init__(self, config: ServiceConfig) -> None:
        self._config = config
        self._crew = Crew("session-store", config, member=self, tell=self._condition)
        self._lookout: Lookout | None = None
        self.name = self._crew.name

    async def serve(self, started: Callable[[], None]) -> None:
        names, settings = self._config.names, self._config.settings
        database = Database(self._config.database or self._config.secrets(VARIABLE) or DEFAULT)
        try:
            async with self._crew.connected() as bus, asyncio.TaskGroup() as group:
                keeper = Keeper(bus, names, database)
                retention = Retention(bus, names, database, keeper, Ages(keep_s=settings.keep_s))
                waiting = Waiting(database, keeper)
                orders = Orders(bus, database, keeper, retention, waiting, f"{self.name} ({database.shown})")
                requests = Requests(bus, names, database, waiting, orders)
                self._lookout = lookout = Lookout(bus, names, database, keeper, requests.book, waiting)
                serving = (keeper.keep, waiting.serve, requests.serve, retention.serve, lookout.serve)
                background = [group.create_task(run()) for run in serving]
                crew = group.create_task(self._crew.serve(bus, (), lambda: None))
                while not (crew.done() or await keeper.ready()):
                    await keeper.moved(READY_S)
                await lookout.look()
                await requests.listen()
                started()
                await asyncio.wait((crew,))
                await requests.finish(LAST_ANSWERS_S)
                for task in background:
                    task.cancel()
        finally:
            await database.aclose()

    def _condition(self) -> Condition:
        return self._lookout.condition() if self._lookout is not None else Condition()

    def stop(self) -> None:
        self._crew.stop()

    def stop_now(self) -> None:
        self._crew.stop()

    def busy(self) -> list[str]:
        return []
