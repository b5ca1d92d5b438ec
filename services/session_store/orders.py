"""What an operator orders, and every store that writes does: build the view anew, delete a conversation."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
import structlog

from mesh.bus import Bus, LiveMessage
from mesh.errors import BusUnavailable, InvalidInput, MeshError
from schemas import session
from schemas.envelope import VERSION
from schemas.session import DeleteAnswer, DeleteRequest, RebuildAnswer, RebuildRequest
from schemas.unreadable import UNREADABLE
from services.session_store import contexts, views
from services.session_store.database import Database
from services.session_store.keeper import Keeper
from services.session_store.retention import Retention
from services.session_store.waiting import Waiting

MAX_NAMED: Final = 10
log = structlog.get_logger("mesh.session_store")


class Orders:
    """Carries them out; `shown` names this store in the answers."""

    def __init__(
        self, bus: Bus, database: Database, keeper: Keeper, retention: Retention, waiting: Waiting, shown: str
    ) -> None:
        self._bus = bus
        self._database = database
        self._keeper = keeper
        self._retention = retention
        self._waiting = waiting
        self._shown = shown

    async def rebuild(self, message: LiveMessage, refused: MeshError | None) -> MeshError | None:
        """Builds the view anew; what went wrong."""
        if not self._keeper.holds:
            return None
        await self._say(message, session.STARTED)
        try:
            if refused is not None:
                raise refused
            msgspec.json.decode(message.data, type=RebuildRequest)
            view = await self._keeper.rebuild()
            tasks = await self._database.read(views.count, view.number)
        except (*UNREADABLE, MeshError) as error:
            log.warning("the view was not built anew", error=str(error))
            failed = as_mesh_error(error)
            await self._say(message, session.FAILED, error=failed.to_error())
            return failed
        await self._say(message, session.DONE, sequence=view.seq, tasks=tasks)
        return None

    async def delete(self, message: LiveMessage, refused: MeshError | None) -> MeshError | None:
        """Purges the logs of a conversation that nothing needs; what went wrong."""
        if not self._keeper.holds:
            return None
        deleted, failed = 0, refused
        if refused is None:
            await self._tell(message, DeleteAnswer(v=VERSION, store=self._shown, state=session.STARTED))
            try:
                deleted = await self._deleted(msgspec.json.decode(message.data, type=DeleteRequest))
            except (*UNREADABLE, MeshError) as error:
                failed = as_mesh_error(error)
        state, told = (session.FAILED, failed.to_error()) if failed is not None else (session.DONE, None)
        answer = DeleteAnswer(v=VERSION, store=self._shown, state=state, tasks=deleted, error=told)
        await self._tell(message, answer)
        return failed

    async def _deleted(self, request: DeleteRequest) -> int:
        wait_s = min(max(request.wait_s, 0.0), session.MAX_WAIT_S)
        await self._waiting.reach(request.sequence, asyncio.get_running_loop().time() + wait_s)
        if not await self._retention.current():
            raise BusUnavailable("the view does not show all that the log holds yet")
        # Only now: what came to the log meanwhile may need the others.
        found = await self._database.read(contexts.belongings, request.context_id, request.owner)
        if len(found.owners) > 1:
            raise InvalidInput(f"its tasks are of {len(found.owners)} owners", hint="name one: --owner OWNER")
        if found.needed_by:
            raise InvalidInput(f"its logs are still needed by {', '.join(found.needed_by[:MAX_NAMED])}")
        await self._retention.purge(found.tasks)
        return len(found.tasks)

    async def _say(self, message: LiveMessage, state: str, **more: Any) -> None:
        await self._tell(message, RebuildAnswer(v=VERSION, store=self._shown, state=state, **more))

    async def _tell(self, message: LiveMessage, answer: RebuildAnswer | DeleteAnswer) -> None:
        await self._bus.send(message.reply, msgspec.json.encode(answer))


def as_mesh_error(error: Exception) -> MeshError:
    """What is told of it."""
    return error if isinstance(error, MeshError) else InvalidInput(f"the request cannot be read: {error}")
