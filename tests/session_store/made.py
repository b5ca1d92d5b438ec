"""A view of logs that nobody ran, in a database without a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Connection

from mesh.log.head import View, next_commit
from schemas import envelope
from schemas.envelope import VERSION, event
from schemas.error import Error
from schemas.instant import rfc3339
from schemas.purge import LogsPurged
from schemas.task import TaskAccepted, TaskCompleted, TaskFailed, TaskStarted
from services.session_store import views
from services.session_store.database import Database
from services.session_store.rules import Stored

BEGAN = 1_700_000_000.0
STEP_S = 0.01
OWNER = "acme/ann"


class By:
    """A writer of logs."""

    by = "executor/test"

    def stamp(self) -> tuple[str, str]:
        return "nonce", rfc3339(BEGAN)


class Made:
    """Logs as they grow, and the view that shows them once they are applied."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.sequence = 0
        self._heads: dict[str, View] = {}
        self._new: list[Stored] = []
        self._view: views.View | None = None

    def accepted(self, id: str, *, context: str | None = None, owner: str = OWNER, agent: str = "a") -> None:
        """A log begins."""
        self._heads.pop(id, None)
        opening = TaskAccepted(
            agent=agent, pool="p", digest="d", sequence=self.sequence + 1, at=rfc3339(BEGAN), input=f"to {id}",
            context_id=context, owner=owner,
        )  # fmt: skip
        self.add(id, opening)

    def add(self, id: str, *data: Struct) -> None:
        """A log grows by one commit."""
        self.sequence += 1
        head = self._heads.get(id, View(id))
        commit = next_commit(head, By(), tuple(event(one) for one in data))
        first = head.first or self.sequence
        self._heads[id] = View(id, self.sequence, commit.n, first, commit.head, commit.v)
        self._new.append(Stored(id, self.sequence, at(self.sequence), envelope.encode(commit)))

    def ended(self, id: str, *, failed: bool = False, **given: str | None) -> None:
        """A whole log."""
        self.accepted(id, **given)  # type: ignore[arg-type]
        self.add(id, TaskStarted(wake=0, cover=1, owner="e", attempt=1))
        wrong = TaskFailed(error=Error(code="handler_error", message="m"))
        self.add(id, wrong if failed else TaskCompleted(output=f"from {id}"))

    async def apply(self) -> None:
        """Shows what has been made."""
        if self._view is None:
            await self.database.write(views.prepare)
            self._view = await self.database.write(views.begin, "S", "created", as_current=True)
        new, self._new = self._new, []
        to = replace(self._view, seq=self.sequence, applied=self.sequence, complete=True)
        self._view = await self.database.write(views.move_on, self._view, new, to)

    def purged(self, ids: Iterable[str]) -> None:
        """The stream says that these logs are gone."""
        self.sequence += 1
        said = LogsPurged(v=VERSION, by="test", logs={id: self._heads[id].seq for id in ids})
        self._new.append(Stored("", self.sequence, at(self.sequence), msgspec.json.encode(said)))

    def forgetting(self, connection: Connection, ids: Iterable[str]) -> None:
        """What the view does when it comes by there."""
        assert self._view is not None
        self.purged(ids)
        to = replace(self._view, seq=self.sequence, applied=self.sequence)
        views.move_on(connection, self._view, [self._new.pop()], to)

    async def ask(self, question: Callable[..., Any], *given: Any) -> Any:
        """An answer, or what it raises."""
        return await self.database.read(question, *given)


def at(sequence: int) -> str:
    """When the broker took a commit."""
    return rfc3339(BEGAN + sequence * STEP_S)
