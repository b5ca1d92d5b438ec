"""The row of each conversation, kept right with the rows of its tasks.

A task that named no context is a conversation only once another one goes on from it; until then it has no row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    FromClause,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    update,
)

from schemas.session import TaskRecord
from services.session_store.tables import alike, contexts, is_open, tasks

Key = tuple[str, str]
Records = Mapping[str, TaskRecord]


class _Delta(Struct):
    """What some tasks change about their conversation; `left` if one of them is of it no more."""

    tasks: int = 0
    open: int = 0
    named: int = 0
    newest: tuple[int, str] = (0, "")
    left: bool = False

    def add(self, record: TaskRecord, sign: int) -> None:
        self.tasks += sign
        self.open += sign * (record.phase != "ended")
        self.named += sign * (record.context_id != record.id)
        if sign > 0:
            self.newest = max(self.newest, (record.status_sequence, record.status_at))


def keep(connection: Connection, number: int, before: Records, after: Records) -> None:
    """Follows a change of tasks that has been written."""
    deltas: dict[Key, _Delta] = defaultdict(_Delta)
    for id, record in before.items():
        delta = deltas[_key(record)]
        delta.add(record, -1)
        delta.left |= id not in after or _key(after[id]) != _key(record)
    for record in after.values():
        deltas[_key(record)].add(record, 1)
    known = _known(connection, number, {context for context, _ in deltas})
    bound = {key: _bound(number, key, delta) for key, delta in deltas.items()}
    _run(connection, _CHANGE, [bound[key] for key in known if key in deltas])
    left = [bound[key] for key in known if key in deltas and deltas[key].left]
    _run(connection, _REMOVE_EMPTY, left)
    _run(connection, _LOOK_AGAIN, left)
    _run(connection, _COUNT, [bound[key] for key, delta in deltas.items() if key not in known and delta.named > 0])


def _run(connection: Connection, statement: Executable, bound: list[dict[str, Any]]) -> None:
    if bound:
        connection.execute(statement, bound)


def _key(record: TaskRecord) -> Key:
    return record.context_id, record.owner


def _known(connection: Connection, number: int, ids: Iterable[str]) -> set[Key]:
    query = select(contexts.c.context_id, contexts.c.owner)
    found = connection.execute(query.where(contexts.c.view == number, contexts.c.context_id.in_(alike(ids))))
    return {(row.context_id, row.owner) for row in found}


def _bound(number: int, key: Key, delta: _Delta) -> dict[str, Any]:
    newest, at = delta.newest
    return {
        "of_view": number, "of_context": key[0], "of_owner": key[1], "new_tasks": delta.tasks, "new_open": delta.open,
        "new_named": delta.named, "new_status": newest, "new_at": at,
    }  # fmt: skip


def _of(table: FromClause) -> ColumnElement[bool]:
    return and_(
        table.c.view == bindparam("of_view"), table.c.context_id == bindparam("of_context"),
        table.c.owner == bindparam("of_owner"),
    )  # fmt: skip


def _first(column: ColumnElement[Any], order: ColumnElement[Any]) -> Any:
    return select(column).where(_of(tasks)).order_by(order).limit(1).scalar_subquery()


_NEWEST_FIRST: Final = tasks.c.status_sequence.desc()
_FOUND: Final = {
    "first": _first(tasks.c.first, tasks.c.first),
    "status_sequence": _first(tasks.c.status_sequence, _NEWEST_FIRST),
    "status_at": _first(tasks.c.status_at, _NEWEST_FIRST),
}
_LATER: Final = contexts.c.status_sequence < bindparam("new_status")
_CHANGE: Final = (
    update(contexts)
    .where(_of(contexts))
    .values(
        tasks=contexts.c.tasks + bindparam("new_tasks"),
        open=contexts.c.open + bindparam("new_open"),
        named=contexts.c.named + bindparam("new_named"),
        status_sequence=case((_LATER, bindparam("new_status")), else_=contexts.c.status_sequence),
        status_at=case((_LATER, bindparam("new_at")), else_=contexts.c.status_at),
    )
)
_REMOVE_EMPTY: Final = delete(contexts).where(_of(contexts), contexts.c.named <= 0)
_LOOK_AGAIN: Final = update(contexts).where(_of(contexts)).values(_FOUND)
_NAMED: Final = func.sum(case((tasks.c.context_id != tasks.c.id, 1), else_=0))
_COUNT: Final = insert(contexts).from_select(
    ["view", "context_id", "owner", "tasks", "open", "named", *_FOUND],
    select(
        bindparam("of_view"), bindparam("of_context"), bindparam("of_owner"), func.count(),
        func.sum(case((is_open(tasks), 1), else_=0)), _NAMED, *_FOUND.values(),
    ).where(_of(tasks)),
)  # fmt: skip
