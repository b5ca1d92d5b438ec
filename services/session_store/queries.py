"""The questions, in SQL; each is one transaction, and sees one state of one view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import eq, ge
from typing import Any, Final, get_args

import msgspec
from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select, tuple_

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
from schemas.task import State, Usage
from services.session_store import pages, rules, views
from services.session_store.tables import ORDERS, bodies, tasks
from services.session_store.views import RECORD, record_of

MAX_LOOKED: Final = 2_000
MAX_PAGE_BYTES: Final = 512 * 1024
# What a message is besides its content.
SAID_BYTES: Final = 500
MAX_BODIES_BYTES: Final = 768 * 1024
MAX_ARTIFACTS: Final = 1_000
CLOCKS_DIFFER_S: Final = 60.0
Fit = tuple[str, Callable[[Any, Any], Any], str]
FILTERS: Final = ("state", "agent", "context_id", "owner")
STATES: Final = get_args(State)
_PLACE: Final = (bodies.c.seq, bodies.c.idx)
_AT: Final = (tasks.c.first, *_PLACE)
_SAID: Final = (
    *(tasks.c[name] for name in ("id", "agent", "owner", "state")),
    *(bodies.c[name] for name in ("seq", "kind", "at", "ref", "body")),
)  # fmt: skip
_TYPES: Final[dict[str, Any]] = {
    rules.INPUT: Any, rules.METADATA: dict[str, Any], rules.OUTPUT: Any, rules.USAGE: Usage, rules.ERROR: Error,
}  # fmt: skip


def get(connection: Connection, request: GetRequest, *, artifacts: int = MAX_ARTIFACTS) -> GetAnswer:
    """One task with its bodies, so many artifacts at the most."""
    view = views.answering(connection)
    asked = tasks.c.submit == request.submit if request.submit else tasks.c.id == request.id
    query = select(*RECORD).where(tasks.c.view == view.number, asked).order_by(tasks.c.first.desc()).limit(1)
    if request.owner is not None:
        query = query.where(tasks.c.owner == request.owner)
    row = connection.execute(query).first()
    detail = None if row is None else _detail(connection, view.number, record_of(row), artifacts)
    return GetAnswer(v=VERSION, sequence=view.seq, detail=detail)


def tasks_like(connection: Connection, request: TasksRequest, *, look: int = MAX_LOOKED) -> TasksAnswer:
    """One page of tasks, the newest status first; raises InvalidInput.

    Where few of the `look` tasks that are looked through fit, the page ends before its limit, and its token leads on.
    """
    view = views.answering(connection)
    fixed = [request.state, request.agent, request.context_id, request.owner, request.since]
    after = pages.position(fixed, request.page_token, 1)
    limit = checked_limit(request.limit)
    fits = {name: value for name in FILTERS if (value := getattr(request, name)) is not None}
    since = None if request.since is None else _normal(request.since)
    if request.state is not None and request.state not in STATES:
        raise InvalidInput(f"`$.state` is none: {request.state[:64]!r}", hint=f"states are {', '.join(STATES)}")
    order = next(columns for columns in ORDERS if fits.keys() >= set(columns))
    looked = select(*RECORD).where(tasks.c.view == view.number, *(tasks.c[name] == fits[name] for name in order))
    looked = looked.order_by(tasks.c.status_sequence.desc())
    if since is not None:
        looked = looked.where(tasks.c.status_sequence > _before(view, since))
    if after is not None:
        looked = looked.where(tasks.c.status_sequence < after[0])
    rest: list[Fit] = [(name, eq, fits[name]) for name in FILTERS if name in fits and name not in order]
    rest += [] if since is None else [("status_at", ge, since)]
    records = [record_of(row) for row in connection.execute(_of_some(looked, rest, look).limit(limit + 1))]
    page = records[:limit]
    end = page[-1].status_sequence if len(records) > limit else None
    if end is None and rest:
        end = connection.scalar(looked.with_only_columns(tasks.c.status_sequence).offset(look - 1).limit(1))
    more = None if end is None else pages.token(fixed, [end])
    return TasksAnswer(v=VERSION, sequence=view.seq, tasks=tuple(page), next_page_token=more)


def _of_some(looked: Select[Any], rest: list[Fit], look: int) -> Select[Any]:
    """Those that fit the rest, too; no more are looked through than a question may cost."""
    if not rest:
        return looked
    some = looked.limit(look).subquery()
    fits = [compare(some.c[name], value) for name, compare, value in rest]
    return select(some).where(*fits).order_by(some.c.status_sequence.desc())


def history(connection: Connection, request: HistoryRequest) -> HistoryAnswer:
    """One page of what was said in a context, in the order of its tasks; raises InvalidInput."""
    view = views.answering(connection)
    fixed = [request.context_id, request.owner]
    after = pages.position(fixed, request.page_token, 3) or [0, 0, 0]
    limit = checked_limit(request.limit)
    mine = and_(tasks.c.view == view.number, tasks.c.context_id == request.context_id)
    if request.owner is not None:
        mine = and_(mine, tasks.c.owner == request.owner)
    parts = [_said(view.number, mine, tasks.c.first > after[0])]
    if at := connection.scalar(select(tasks.c.id).where(mine, tasks.c.first == after[0])):
        left = tuple_(bodies.c.seq, bodies.c.idx) > tuple_(after[1], after[2])
        parts.insert(0, _said(view.number, mine, tasks.c.id == at, bodies.c.task == at, left))
    sizes = _in_turn(connection, parts, (*_AT, bodies.c.size), limit + 1)
    count = _fitting([SAID_BYTES + row.size for row in sizes], limit, MAX_PAGE_BYTES) or 1
    messages = tuple(_message(row) for row in _in_turn(connection, parts, _SAID, count))
    more = pages.token(fixed, list(sizes[count - 1][:3])) if count < len(sizes) else None
    return HistoryAnswer(v=VERSION, sequence=view.seq, messages=messages, next_page_token=more)


def _said(number: int, mine: ColumnElement[bool], *more: ColumnElement[bool]) -> ColumnElement[bool]:
    of_them = (bodies.c.view == number, bodies.c.task == tasks.c.id, bodies.c.kind.in_(rules.SAID))
    return and_(mine, *of_them, *more)


def _in_turn(
    connection: Connection, parts: list[ColumnElement[bool]], columns: tuple[Any, ...], limit: int
) -> list[Any]:
    """So much of what was said, from one part after the other, each in the order of the log."""
    rows: list[Any] = []
    for part in parts:
        query = select(*columns).where(part).order_by(*_AT).limit(limit - len(rows))
        rows += connection.execute(query) if len(rows) < limit else []
    return rows


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
    earlier = earlier.where(tasks.c.status_at < rfc3339(max(0.0, unix(since) - CLOCKS_DIFFER_S)))
    newest = earlier.order_by(tasks.c.status_at.desc()).limit(1).scalar_subquery()
    return func.coalesce(newest, 0)


def checked_limit(limit: int) -> int:
    """The limit of a page; raises InvalidInput past what is allowed."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"`$.limit` must be 1 to {MAX_LIMIT}, not {limit}")
    return limit


def _fitting(sizes: Sequence[int], limit: int, room: int) -> int:
    """How many of these fit, from the first on."""
    return sum(total <= room for total in accumulate(sizes[:limit]))


def _detail(connection: Connection, number: int, record: TaskRecord, limit: int) -> TaskDetail:
    """A task with as many of its bodies as fit, its artifacts last; those that do not are not even read."""
    mine = and_(bodies.c.view == number, bodies.c.task == record.id, bodies.c.kind.in_((*_TYPES, rules.ARTIFACT)))
    listed = select(bodies.c.kind, bodies.c.size, *_PLACE).where(mine)
    listed = listed.order_by(bodies.c.kind == rules.ARTIFACT, *_PLACE).limit(len(_TYPES) + limit + 1)
    rows = connection.execute(listed).all()
    small_first = sorted((row for row in rows if row.kind != rules.ARTIFACT), key=lambda row: row.size)
    artifacts = rows[len(small_first) :]
    count = _fitting([row.size for row in small_first], len(small_first), MAX_BODIES_BYTES)
    room = MAX_BODIES_BYTES - sum(row.size for row in small_first[:count])
    shown = _fitting([row.size for row in artifacts], limit, room)
    last = artifacts[shown - 1][-2:] if shown else (0, 0)
    fits = or_(
        bodies.c.kind.in_([row.kind for row in small_first[:count]]),
        and_(bodies.c.kind == rules.ARTIFACT, tuple_(*_PLACE) <= last),
    )
    values: dict[str, Any] = {}
    found: list[ArtifactAdded] = []
    for row in connection.execute(select(bodies).where(mine, fits).order_by(*_PLACE)):
        if row.kind == rules.ARTIFACT:
            found.append(msgspec.json.decode(row.body, type=ArtifactAdded))
        elif row.ref:
            values[f"{row.kind}_ref"] = msgspec.json.decode(row.ref, type=ObjectRef)
        else:
            values[row.kind] = msgspec.json.decode(row.body, type=_TYPES[row.kind])
    omitted = [row.kind for row in small_first[count:]] + ["artifacts"] * (shown < len(artifacts))
    return TaskDetail(task=record, artifacts=tuple(found), omitted=tuple(omitted), **values)


def _message(row: Any) -> SaidMessage:
    return SaidMessage(
        task=row.id, role=ASSISTANT if row.kind == rules.OUTPUT else USER, at=row.at, sequence=row.seq,
        agent=row.agent, owner=row.owner, state=row.state,
        content=msgspec.json.decode(row.body) if row.body is not None else None,
        content_ref=msgspec.json.decode(row.ref, type=ObjectRef) if row.ref else None,
    )  # fmt: skip
