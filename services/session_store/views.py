"""The views in the database: which there are, how one moves on, how another takes its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import Connection, Table, Update, bindparam, delete, func, insert, select, update

from mesh.errors import MeshError, ViewBehind
from schemas import error as codes
from schemas.instant import unix
from schemas.session import TaskRecord
from services.session_store import rules, tallies
from services.session_store.rules import Body, Change, Row, Stored
from services.session_store.tables import (
    LAYOUT,
    OF_A_TASK,
    OF_A_VIEW,
    alike,
    bodies,
    forks,
    layout,
    metadata,
    objects,
    orphans,
    tasks,
    views,
)

CHUNK: Final = 5_000
FIELDS: Final = TaskRecord.__struct_fields__
RECORD: Final = tuple(tasks.c[name] for name in FIELDS)


class View(Struct, frozen=True):
    """One view: of which stream, how far it has come, whether it shows all that there was when it was begun.

    `applied` is the sequence of the last message that it has had, `seq` up to where there is no other.
    """

    number: int
    seq: int
    applied: int
    complete: bool
    stream: str
    created: str

    def shows(self, sequence: int) -> bool:
        """Whether it shows all of the log up to there."""
        return self.complete and self.seq >= sequence


class Overtaken(MeshError):
    """Another process has moved this view on, or has put another one in its place."""

    code = codes.FENCED
    retryable = True


def prepare(connection: Connection) -> None:
    """Creates the tables; those of another layout are dropped first, because the log has all that they hold."""
    layout.create(connection, checkfirst=True)
    if connection.scalar(select(layout.c.layout)) != LAYOUT:
        metadata.drop_all(connection, tables=[table for table in metadata.sorted_tables if table is not layout])
        connection.execute(delete(layout))
        connection.execute(insert(layout).values(layout=LAYOUT))
    metadata.create_all(connection)


def current(connection: Connection) -> View | None:
    """The view that is answered from."""
    found = connection.execute(select(views).where(views.c.current)).first()
    return (
        None
        if found is None
        else View(found.view, found.seq, found.applied, found.complete, found.stream, found.created)
    )


def answering(connection: Connection) -> View:
    """The same, for who asks about tasks; raises ViewBehind where there is none: that is no empty one."""
    view = current(connection)
    if view is None:
        raise ViewBehind("the session store has no view yet", hint="ask again")
    return view


def begin(connection: Connection, stream: str, created: str, *, as_current: bool) -> View:
    """A new, empty view."""
    number = (connection.scalar(select(func.max(views.c.view))) or 0) + 1
    if as_current:
        connection.execute(update(views).values(current=False))
    connection.execute(
        insert(views).values(
            view=number, seq=0, applied=0, complete=False, current=as_current, stream=stream, created=created,
            skipped=0, unknown=0,
        )
    )  # fmt: skip
    return View(number, 0, 0, False, stream, created)


def begin_again(connection: Connection, view: View) -> None:
    """An empty view in the place of this one, if this is the one that is answered from."""
    if connection.execute(_still(view).where(views.c.current).values(current=False)).rowcount:
        begin(connection, view.stream, view.created, as_current=True)


def move_on(connection: Connection, view: View, messages: Sequence[Stored], to: View) -> View:
    """Applies what stands between two states of a view; raises Overtaken if it is not in the first one any more."""
    _advance(connection, view, to)
    skipped = unknown = 0
    for of_a_task, some in groupby(messages, lambda message: bool(message.task)):
        took = (_commits if of_a_task else _purges)(connection, view.number, list(some))
        skipped, unknown = skipped + took[0], unknown + took[1]
    _count(connection, view.number, skipped, unknown)
    return to


def skip(connection: Connection, view: View, to: View) -> View:
    """Goes past a message that the database cannot hold; raises Overtaken."""
    _advance(connection, view, to)
    _count(connection, view.number, 1, 0)
    return to


def _commits(connection: Connection, number: int, messages: Sequence[Stored]) -> tuple[int, int]:
    """Applies commits; how many cannot be read, and how many of their events."""
    changed: dict[str, Row] = {}
    steps: list[Change] = []
    known = _rows(connection, number, {message.task for message in messages})
    skipped = 0
    for message in messages:
        try:
            change = rules.fold(changed.get(message.task) or known.get(message.task), message)
        except rules.UNREADABLE:
            skipped += 1
            continue
        if change is not None:
            changed[message.task] = change.row
            steps.append(change)
    _write(connection, number, known, changed, steps, unix(messages[-1].at))
    return skipped, sum(change.unknown for change in steps)


def _purges(connection: Connection, number: int, messages: Sequence[Stored]) -> tuple[int, int]:
    """Forgets the logs of which these say that they are gone; what was written under their ids since stays."""
    skipped = 0
    for message in messages:
        said = rules.purged(message.data)
        if said is None:
            skipped += 1
            continue
        ids = sorted(said.logs)
        for start in range(0, len(ids), CHUNK):
            rows = _rows(connection, number, set(ids[start : start + CHUNK]))
            gone = [id for id, row in rows.items() if row.record.sequence <= said.logs[id]]
            _forget(connection, number, gone, unix(message.at))
    return skipped, 0


def put_in_place(connection: Connection, old: View, new: View) -> bool:
    """Answers come from the new view from now on; False while it has not come as far as the old one."""
    reached = select(views.c.seq).where(views.c.view == old.number, views.c.current).scalar_subquery()
    ready = update(views).where(views.c.view == new.number, views.c.complete, views.c.seq >= reached)
    if not connection.execute(ready.values(current=True)).rowcount:
        return False
    connection.execute(update(views).where(views.c.view == old.number).values(current=False))
    return True


def stale(connection: Connection) -> list[int]:
    """Views that nobody is answered from."""
    return list(connection.scalars(select(views.c.view).where(views.c.current.is_(False))))


def remove_some(connection: Connection, number: int) -> bool:
    """Removes a part of a stale view; True when nothing is left of it."""
    for table, column in OF_A_VIEW:
        some = select(column).where(table.c.view == number).limit(CHUNK)
        gone = connection.execute(delete(table).where(table.c.view == number, column.in_(some)))
        if gone.rowcount:
            return False
    connection.execute(delete(views).where(views.c.view == number))
    return True


def count(connection: Connection, number: int) -> int:
    """How many tasks a view has."""
    return connection.scalar(select(func.count()).select_from(tasks).where(tasks.c.view == number)) or 0


def record_of(row: Any) -> TaskRecord:
    """The record in a row that begins with `RECORD`."""
    return TaskRecord(**dict(zip(FIELDS, row, strict=False)))


def _rows(connection: Connection, number: int, ids: set[str]) -> dict[str, Row]:
    if not ids:
        return {}
    query = select(*RECORD, tasks.c.root).where(tasks.c.view == number, tasks.c.id.in_(alike(ids)))
    return {row.id: Row(record=record_of(row), root=row.root) for row in connection.execute(query)}


def _still(view: View) -> Update:
    return update(views).where(views.c.view == view.number, views.c.seq == view.seq)


def _advance(connection: Connection, view: View, to: View) -> None:
    moved = _still(view).values(seq=to.seq, applied=to.applied, complete=to.complete)
    if not connection.execute(moved).rowcount:
        raise Overtaken(f"the view {view.number} is no longer at sequence {view.seq}")


def _count(connection: Connection, number: int, skipped: int, unknown: int) -> None:
    if skipped or unknown:
        more = {"skipped": views.c.skipped + skipped, "unknown": views.c.unknown + unknown}
        connection.execute(update(views).where(views.c.view == number).values(more))


def _forget(connection: Connection, number: int, ids: Iterable[str], at: float) -> None:
    """Removes tasks whose logs are gone since then; the objects that they referred to may have lost their last log."""
    before = {id: row.record for id, row in _rows(connection, number, set(ids)).items()}
    ids = alike(ids)
    mine = select(objects.c.digest).where(objects.c.view == number, objects.c.task.in_(ids)).distinct()
    connection.execute(update(orphans).where(orphans.c.digest.in_(mine), orphans.c.since < at).values(since=at))
    left = connection.scalars(mine.where(objects.c.digest.not_in(select(orphans.c.digest))))
    _insert(connection, orphans, [{"digest": digest, "since": at} for digest in left])
    for table, column in OF_A_TASK:
        connection.execute(delete(table).where(table.c.view == number, column.in_(ids)))
    tallies.keep(connection, number, before, {})


def _write(
    connection: Connection, number: int, known: dict[str, Row], changed: dict[str, Row], steps: Sequence[Change],
    at: float,
) -> None:  # fmt: skip
    again = sorted({one.row.record.id for one in steps if one.fresh} & known.keys())
    if again:
        # A log that begins anew under an id that was purged: what was known of it is of another one.
        _forget(connection, number, again, at)
    old = known.keys() - set(again)
    rows = {id: _values(number, row) for id, row in changed.items()}
    _insert(connection, tasks, [values for id, values in rows.items() if id not in old])
    if existing := [values for id, values in rows.items() if id in old]:
        connection.execute(_UPDATE, [{f"new_{name}": value for name, value in one.items()} for one in existing])
    before = {id: row.record for id, row in known.items() if id in old and id in changed}
    tallies.keep(connection, number, before, {id: row.record for id, row in changed.items()})
    last = _last_beginnings(steps)
    kept = [one for index, one in enumerate(steps) if index >= last.get(one.row.record.id, 0)]
    _insert(connection, bodies, [_body_values(number, body) for one in kept for body in one.bodies])
    refs = {(digest, one.row.record.id) for one in kept for digest in one.objects}
    refs -= _known_refs(connection, number, {task for _, task in refs if task in old})
    _insert(connection, objects, [{"view": number, "digest": digest, "task": task} for digest, task in sorted(refs)])
    origins = {one.row.record.id: one.origin for one in kept if one.origin}
    _insert(connection, forks, [{"view": number, "task": task, "origin": origin} for task, origin in origins.items()])


def _last_beginnings(steps: Sequence[Change]) -> dict[str, int]:
    return {one.row.record.id: index for index, one in enumerate(steps) if one.fresh}


def _known_refs(connection: Connection, number: int, ids: set[str]) -> set[tuple[str, str]]:
    if not ids:
        return set()
    found = select(objects.c.digest, objects.c.task).where(objects.c.view == number, objects.c.task.in_(alike(ids)))
    return {(row.digest, row.task) for row in connection.execute(found)}


def _values(number: int, row: Row) -> dict[str, Any]:
    record = row.record
    return {name: getattr(record, name) for name in FIELDS} | {"view": number, "root": row.root}


def _body_values(number: int, body: Body) -> dict[str, Any]:
    return asdict(body) | {"view": number, "size": len((body.body or "").encode())}


def _insert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


# What tells a task from others stays; all else is written, whatever changed.
_UPDATE: Final = (
    update(tasks)
    .where(tasks.c.view == bindparam("new_view"), tasks.c.id == bindparam("new_id"))
    .values({c: bindparam(f"new_{c.name}") for c in tasks.c if c.name not in ("view", "id")})
)
