"""Conversations in SQL: which there are, and what belongs to one."""

from __future__ import annotations

from msgspec import Struct
from sqlalchemy import Connection, and_, case, exists, func, or_, select

from schemas.envelope import VERSION
from schemas.session import ContextRecord, ContextsAnswer, ContextsRequest
from services.session_store import pages, views
from services.session_store.queries import checked_limit
from services.session_store.tables import forks, tasks

ENDED = "ended"


class Belongings(Struct, frozen=True):
    """What belongs to a conversation: its tasks and where their logs end, and those that still need the logs."""

    tasks: dict[str, int] = {}
    needed_by: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()


def contexts(connection: Connection, request: ContextsRequest) -> ContextsAnswer:
    """One page of conversations, the newest status first; raises InvalidInput.

    A task that named no context, and that no other goes on from, is none.
    """
    view = views.current(connection)
    fixed = ["contexts", request.owner]
    after = pages.position(fixed, request.page_token)
    if view is None:
        return ContextsAnswer(v=VERSION)
    limit = checked_limit(request.limit)
    newest = func.max(tasks.c.status_sequence)
    query = (
        select(
            tasks.c.context_id, tasks.c.owner, func.count().label("tasks"), func.min(tasks.c.first).label("first"),
            func.sum(case((tasks.c.phase != ENDED, 1), else_=0)).label("open"), newest.label("status_sequence"),
            func.max(tasks.c.status_at).label("status_at"),
        )
        .where(tasks.c.view == view.number)
        .group_by(tasks.c.context_id, tasks.c.owner)
        .having(func.sum(case((tasks.c.context_id != tasks.c.id, 1), else_=0)) > 0)
    )  # fmt: skip
    if request.owner is not None:
        query = query.where(tasks.c.owner == request.owner)
    if after is not None:
        query = query.having(newest < after[0])
    rows = list(connection.execute(query.order_by(newest.desc()).limit(limit + 1)))
    page = tuple(
        ContextRecord(**{name: getattr(row, name) for name in ContextRecord.__struct_fields__}) for row in rows[:limit]
    )
    more = pages.token(fixed, [page[-1].status_sequence]) if len(rows) > limit else None
    return ContextsAnswer(v=VERSION, sequence=view.seq, contexts=page, next_page_token=more)


def belongings(connection: Connection, context_id: str, owner: str | None) -> Belongings:
    """The tasks of a conversation; needed while one of their trees has not ended, or a fork goes on from one."""
    view = views.current(connection)
    if view is None:
        return Belongings()
    mine = and_(tasks.c.view == view.number, tasks.c.context_id == context_id)
    if owner is not None:
        mine = and_(mine, tasks.c.owner == owner)
    found = list(
        connection.execute(select(tasks.c.id, tasks.c.owner, tasks.c.sequence).where(mine).order_by(tasks.c.first))
    )
    other = tasks.alias("other")
    tree = exists().where(mine, tasks.c.root == other.c.root)
    forked = exists().where(mine, forks.c.view == view.number, forks.c.task == other.c.id, forks.c.origin == tasks.c.id)
    open_tree = and_(other.c.phase != ENDED, tree)
    foreign = and_(forked, other.c.context_id != context_id)
    needing = select(other.c.id).where(other.c.view == view.number, or_(open_tree, foreign)).order_by(other.c.first)
    return Belongings(
        {row.id: row.sequence for row in found},
        tuple(connection.scalars(needing)),
        tuple(sorted({row.owner for row in found})),
    )
