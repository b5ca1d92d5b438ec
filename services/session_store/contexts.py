"""Conversations in SQL: which there are, and what belongs to one."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, and_, select, union

from schemas.envelope import VERSION
from schemas.session import ContextRecord, ContextsAnswer, ContextsRequest
from services.session_store import pages, views
from services.session_store.queries import checked_limit
from services.session_store.tables import contexts as talks
from services.session_store.tables import forks, is_open, tasks

RECORD: Final = tuple(talks.c[name] for name in ContextRecord.__struct_fields__)


class Belongings(Struct, frozen=True):
    """What belongs to a conversation: its tasks and where their logs end, and those that still need the logs."""

    tasks: dict[str, int] = {}
    needed_by: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()


def contexts(connection: Connection, request: ContextsRequest) -> ContextsAnswer:
    """One page of conversations, the newest status first; raises InvalidInput.

    A task that named no context, and that no other goes on from, is none.
    """
    view = views.answering(connection)
    fixed = ["contexts", request.owner]
    after = pages.position(fixed, request.page_token, 1)
    limit = checked_limit(request.limit)
    query = select(*RECORD).where(talks.c.view == view.number)
    if request.owner is not None:
        query = query.where(talks.c.owner == request.owner)
    if after is not None:
        query = query.where(talks.c.status_sequence < after[0])
    rows = connection.execute(query.order_by(talks.c.status_sequence.desc()).limit(limit + 1)).mappings().all()
    page = tuple(ContextRecord(**row) for row in rows[:limit])
    more = pages.token(fixed, [page[-1].status_sequence]) if len(rows) > limit else None
    return ContextsAnswer(v=VERSION, sequence=view.seq, contexts=page, next_page_token=more)


def belongings(connection: Connection, context_id: str, owner: str | None) -> Belongings:
    """The tasks of a conversation; needed while one of their trees has not ended, or a fork goes on from one."""
    view = views.answering(connection)
    mine = and_(tasks.c.view == view.number, tasks.c.context_id == context_id)
    if owner is not None:
        mine = and_(mine, tasks.c.owner == owner)
    query = select(tasks.c.id, tasks.c.owner, tasks.c.sequence).where(mine)
    found = connection.execute(query.order_by(tasks.c.first)).all()
    other = tasks.alias("other")
    tree = and_(other.c.view == view.number, other.c.root == tasks.c.root, is_open(other))
    open_trees = select(other.c.id, other.c.first).join_from(tasks, other, tree).where(mine)
    fork = and_(forks.c.view == view.number, forks.c.origin == tasks.c.id)
    of_fork = and_(other.c.view == view.number, other.c.id == forks.c.task, other.c.context_id != context_id)
    forked = select(other.c.id, other.c.first).join_from(tasks, forks, fork).join(other, of_fork).where(mine)
    needing = union(open_trees, forked).subquery()
    return Belongings(
        {row.id: row.sequence for row in found},
        tuple(connection.scalars(select(needing.c.id).order_by(needing.c.first))),
        tuple(sorted({row.owner for row in found})),
    )
