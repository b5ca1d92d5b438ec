"""The tables of the view.

All but the last two hold any number of views side by side: one that is answered from, and one that is being built.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

# The view is built anew when this changes; there is nothing to migrate.
LAYOUT: Final = 2

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
    Index("mesh_tasks_newest", "view", "status_sequence"),
    Index("mesh_tasks_state", "view", "state", "status_sequence"),
    Index("mesh_tasks_agent", "view", "agent", "status_sequence"),
    Index("mesh_tasks_owner", "view", "owner", "status_sequence"),
    Index("mesh_tasks_context", "view", "context_id", "status_sequence"),
    Index("mesh_tasks_submit", "view", "submit"),
    Index("mesh_tasks_root", "view", "root"),
    Index("mesh_tasks_status", "view", "status_at"),
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
