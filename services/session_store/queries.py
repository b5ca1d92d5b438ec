"""The questions, in SQL; each is one transaction, and sees one state of one view."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, select

from mesh.errors import InvalidInput
from schemas.envelope import VERSION
from schemas.error import Error
from schemas.instant import rfc3339, unix
from schemas.object import ObjectRef
from schemas.session import (
    ASSISTANT,
    MAX_LIMIT,
    USER,
    GetAnswer,
    GetRequest,
    HistoryAnswer,
    HistoryRequest,
    SaidMessage,
    TaskDetail,
    TaskRecord,
    TasksAnswer,
    TasksRequest,
)
from schemas.step import ArtifactAdded
from schemas.task import Usage
from services.session_store import pages, rules, views
from services.session_store.tables import bodies, tasks
from services.session_store.views import RECORD, record_of

MAX_PAGE_BYTES: Final = 512 * 1024
MAX_BODIES_BYTES: Final = 768 * 1024
MAX_ARTIFACTS: Final = 1_000
CLOCKS_DIFFER_S: Final = 60.0
_TYPES: Final[dict[str, Any]] = {
    rules.INPUT: Any, rules.METADATA: dict[str, Any], rules.OUTPUT: Any, rules.USAGE: Usage, rules.ERROR: Error,
}  # fmt: skip


def get(connection: Connection, request: GetRequest) -> GetAnswer:
    """One task with its bodies."""
    view = views.current(connection)
    if view is None:
        return GetAnswer(v=VERSION)
    asked = tasks.c.submit == request.submit if request.submit else tasks.c.id == request.id
    query = select(*RECORD).where(tasks.c.view == view.number, asked).order_by(tasks.c.first.desc()).limit(1)
    if request.owner is not None:
        query = query.where(tasks.c.owner == request.owner)
    row = connection.execute(query).first()
    detail = None if row is None else _detail(connection, view.number, record_of(row))
    return GetAnswer(v=VERSION, sequence=view.seq, detail=detail)


def tasks_like(connection: Connection, request: TasksRequest) -> TasksAnswer:
    """One page of tasks, the newest status first; raises InvalidInput."""
    view = views.current(connection)
    fixed = [request.state, request.agent, request.context_id, request.owner, request.since]
    after = pages.position(fixed, request.page_token)
    if view is None:
        return TasksAnswer(v=VERSION)
    limit = checked_limit(request.limit)
    query = select(*RECORD).where(tasks.c.view == view.number)
    for name in ("state", "agent", "context_id", "owner"):
        if (wanted := getattr(request, name)) is not None:
            query = query.where(tasks.c[name] == wanted)
    if request.since is not None:
        since = _normal(request.since)
        query = query.where(tasks.c.status_at >= since, tasks.c.status_sequence > _before(view, since))
    if after is not None:
        query = query.where(tasks.c.status_sequence < after[0])
    found = connection.execute(query.order_by(tasks.c.status_sequence.desc(), tasks.c.id).limit(limit + 1))
    records = [record_of(row) for row in found]
    page = _fitting(records, [300 + len(one.context_id) for one in records], limit)
    more = pages.token(fixed, [page[-1].status_sequence]) if len(page) < len(records) else None
    return TasksAnswer(v=VERSION, sequence=view.seq, tasks=tuple(page), next_page_token=more)


def history(connection: Connection, request: HistoryRequest) -> HistoryAnswer:
    """One page of what was said in a context, in the order of its tasks; raises InvalidInput."""
    view = views.current(connection)
    fixed = [request.context_id, request.owner]
    after = pages.position(fixed, request.page_token) or [0, 0, 0]
    if view is None:
        return HistoryAnswer(v=VERSION)
    limit = checked_limit(request.limit)
    query = select(*RECORD).where(tasks.c.view == view.number, tasks.c.context_id == request.context_id)
    if request.owner is not None:
        query = query.where(tasks.c.owner == request.owner)
    found: list[tuple[TaskRecord, Any]] = []
    first = after[0]
    while len(found) <= limit:
        some = query.where(tasks.c.first >= first).order_by(tasks.c.first).limit(limit + 1)
        records = {row.id: record_of(row) for row in connection.execute(some)}
        if not records:
            break
        found += _said_in(connection, view.number, records, after)
        first = max(record.first for record in records.values()) + 1
    page = _fitting(found, [300 + len(row.body or "") * 2 for _, row in found], limit)
    more = None
    if len(page) < len(found):
        record, row = page[-1]
        more = pages.token(fixed, [record.first, row.seq, row.idx])
    messages = tuple(_said(record, row) for record, row in page)
    return HistoryAnswer(v=VERSION, sequence=view.seq, messages=messages, next_page_token=more)


def _normal(time: str) -> str:
    try:
        return rfc3339(unix(time))
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidInput(f"`$.since` is no time: {time[:64]!r}", hint="2026-01-02T03:04:05Z") from error


def _before(view: views.View, since: str) -> Any:
    """A sequence before every status of that time, so that not all of the past is looked through.

    Times follow sequences but for what the clocks of two leaders of the stream differ by.
    """
    earlier = select(tasks.c.status_sequence).where(tasks.c.view == view.number)
    earlier = earlier.where(tasks.c.status_at < rfc3339(unix(since) - CLOCKS_DIFFER_S))
    newest = earlier.order_by(tasks.c.status_at.desc()).limit(1).scalar_subquery()
    return func.coalesce(newest, 0)


def checked_limit(limit: int) -> int:
    """The limit of a page; raises InvalidInput past what is allowed."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"`$.limit` must be 1 to {MAX_LIMIT}, not {limit}")
    return limit


def _fitting(rows: list[Any], sizes: list[int], limit: int) -> list[Any]:
    """As many as a page may have; one at the least."""
    total = 0
    for index, size in enumerate(sizes[:limit]):
        total += size
        if total > MAX_PAGE_BYTES and index:
            return rows[:index]
    return rows[:limit]


def _detail(connection: Connection, number: int, record: TaskRecord) -> TaskDetail:
    query = select(bodies).where(bodies.c.view == number, bodies.c.task == record.id)
    values: dict[str, Any] = {}
    omitted: list[str] = []
    artifacts: list[ArtifactAdded] = []
    room = MAX_BODIES_BYTES
    for row in connection.execute(query.order_by(bodies.c.seq, bodies.c.idx)):
        if row.kind == rules.RECEIVED:
            continue
        room -= len((row.body or "").encode())
        if room < 0 or len(artifacts) >= MAX_ARTIFACTS:
            omitted.append("artifacts" if row.kind == rules.ARTIFACT else row.kind)
        elif row.kind == rules.ARTIFACT:
            artifacts.append(msgspec.json.decode(row.body, type=ArtifactAdded))
        elif row.ref:
            values[f"{row.kind}_ref"] = msgspec.json.decode(row.ref, type=ObjectRef)
        else:
            values[row.kind] = msgspec.json.decode(row.body, type=_TYPES[row.kind])
    return TaskDetail(task=record, artifacts=tuple(artifacts), omitted=tuple(dict.fromkeys(omitted)), **values)


def _said_in(
    connection: Connection, number: int, records: dict[str, TaskRecord], after: list[int]
) -> list[tuple[TaskRecord, Any]]:
    """What was said in these tasks, in their order, after a position."""
    query = select(bodies).where(bodies.c.view == number, bodies.c.task.in_(list(records)))
    rows = connection.execute(query.where(bodies.c.kind.in_(rules.SAID)))
    found = [((records[row.task].first, row.seq, row.idx), row) for row in rows]
    found.sort(key=lambda one: one[0])
    return [(records[row.task], row) for at, row in found if list(at) > after]


def _said(record: TaskRecord, row: Any) -> SaidMessage:
    return SaidMessage(
        task=record.id, role=ASSISTANT if row.kind == rules.OUTPUT else USER, at=row.at, sequence=row.seq,
        agent=record.agent, owner=record.owner, state=record.state,
        content=msgspec.json.decode(row.body) if row.body is not None else None,
        content_ref=msgspec.json.decode(row.ref, type=ObjectRef) if row.ref else None,
    )  # fmt: skip
