"""The tables of the view.

All but the last two hold any number of views side by side: one that is answered from, and one that is being built.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    FromClause,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    literal_column,
    text,
)

# The view is built anew when this changes; there is nothing to migrate.
LAYOUT: Final = 2

# Tasks can be read the newest status first by any of these; a query of other filters looks through the first that fits.
ORDERS: Final[tuple[tuple[str, ...], ...]] = (
    ("context_id", "owner"), ("context_id",), ("owner", "state"), ("agent", "state"), ("owner",), ("agent",),
    ("state",), (),
)  # fmt: skip
_OPEN: Final = text("phase <> 'ended'")

metadata = MetaData()

views = Table(
    "mesh_views",
    metadata,
    Column("view", Integer, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("applied", BigInteger, nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("current", Boolean, nullable=False),
    Column("stream", String, nullable=False),
    Column("created", String, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("unknown", BigInteger, nullable=False),
)

tasks = Table(
    "mesh_tasks",
    metadata,
    Column("view", Integer, primary_key=True),
    Column("id", String, primary_key=True),
    Column("root", String, nullable=False),
    Column("parent", String),
    Column("agent", String, nullable=False),
    Column("pool", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("context_id", String, nullable=False),
    Column("state", String, nullable=False),
    Column("phase", String, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("error_code", String),
    Column("submit", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("commits", BigInteger, nullable=False),
    Column("claims", BigInteger, nullable=False),
    Column("status_sequence", BigInteger, nullable=False),
    Column("submitted_at", String, nullable=False),
    Column("started_at", String),
    Column("status_at", String, nullable=False),
    *(Index(f"mesh_tasks_by_{'_'.join(order) or 'status'}", "view", *order, "status_sequence") for order in ORDERS),
    Index("mesh_tasks_said", "view", "context_id", "first"),
    Index("mesh_tasks_said_of", "view", "context_id", "owner", "first"),
    Index("mesh_tasks_submit", "view", "submit"),
    Index("mesh_tasks_open", "view", "root", postgresql_where=_OPEN, sqlite_where=_OPEN),
    Index("mesh_tasks_status_at", "view", "status_at"),
)

# What is said of each conversation of each owner in which a task names it; follows from the tasks.
contexts = Table(
    "mesh_contexts",
    metadata,
    Column("view", Integer, primary_key=True),
    Column("context_id", String, primary_key=True),
    Column("owner", String, primary_key=True),
    Column("tasks", BigInteger, nullable=False),
    Column("open", BigInteger, nullable=False),
    Column("named", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("status_sequence", BigInteger, nullable=False),
    Column("status_at", String, nullable=False),
    Index("mesh_contexts_newest", "view", "status_sequence"),
    Index("mesh_contexts_owner", "view", "owner", "status_sequence"),
)

bodies = Table(
    "mesh_bodies",
    metadata,
    Column("view", Integer, primary_key=True),
    Column("task", String, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("idx", Integer, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),
    Column("at", String, nullable=False),
    Column("size", Integer, nullable=False),
    Column("ref", Text),
    Column("body", Text),
)

objects = Table(
    "mesh_objects",
    metadata,
    Column("view", Integer, primary_key=True),
    Column("digest", String, primary_key=True),
    Column("task", String, primary_key=True),
    Index("mesh_objects_task", "view", "task"),
)

forks = Table(
    "mesh_forks",
    metadata,
    Column("view", Integer, primary_key=True),
    Column("task", String, primary_key=True),
    Column("origin", String, nullable=False),
    Index("mesh_forks_origin", "view", "origin"),
)

orphans = Table("mesh_orphans", metadata, Column("digest", String, primary_key=True), Column("since", Float))

layout = Table("mesh_layout", metadata, Column("layout", Integer, primary_key=True, autoincrement=False))

# What belongs to a task, by the column that names it.
OF_A_TASK: Final = ((tasks, tasks.c.id), (bodies, bodies.c.task), (objects, objects.c.task), (forks, forks.c.task))
OF_A_VIEW: Final = (*OF_A_TASK, (contexts, contexts.c.context_id))


def is_open(table: FromClause) -> ColumnElement[bool]:
    """Whether a task has not ended, in the words of the index that holds only such."""
    return table.c.phase != literal_column("'ended'")


def alike(ids: Iterable[str]) -> list[str]:
    """The ids for an `in`, the last one repeated until there are a power of two.

    Each length is another statement, and a connection keeps a hundred that it has prepared, of 0.1 MB each.
    """
    ordered = sorted(set(ids))
    return ordered + ordered[-1:] * ((1 << (len(ordered) - 1).bit_length()) - len(ordered)) if ordered else []
