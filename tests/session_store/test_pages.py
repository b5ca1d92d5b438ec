"""Pages are whole, in order, without a gap, and read no more than they show."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, event, select

from mesh.errors import InvalidInput, ViewBehind
from schemas.error import Error
from schemas.session import (
    ContextsRequest,
    GetRequest,
    HistoryRequest,
    SaidMessage,
    TaskRecord,
    TasksRequest,
)
from schemas.step import ArtifactAdded
from schemas.task import MessageReceived, TaskCompleted, TaskFailed
from services.session_store import contexts, queries, retention, views
from services.session_store.database import Database
from services.session_store.pages import token
from services.session_store.tables import contexts as talks
from services.session_store.tables import tasks as rows
from tests.session_store.made import Made, at

KIB = 1024
ALL = TasksRequest(v=1)


@pytest.fixture
async def made(database: str) -> AsyncIterator[Made]:
    opened = Database(database)
    yield Made(opened)
    await opened.aclose()


async def all_pages(made: Made, question: Any, request: Any, items: str) -> list[list[Any]]:
    """The pages of a question, to the last one."""
    pages: list[list[Any]] = []
    while True:
        answer = await made.ask(question, request)
        pages.append(list(getattr(answer, items)))
        if answer.next_page_token is None:
            return pages
        request = replace(request, page_token=answer.next_page_token)


def said(pages: list[list[SaidMessage]]) -> list[tuple[str, Any]]:
    return [(one.task, one.content) for page in pages for one in page]


def message(text: str) -> MessageReceived:
    return MessageReceived(id="m", body=text)


def artifact(name: str) -> ArtifactAdded:
    return ArtifactAdded(name=name, digest="sha256-x", size=1)


async def test_a_conversation_whose_tasks_overlap_and_have_many_messages_pages_without_a_gap(made: Made) -> None:
    for id in ("t1", "t2", "t3"):
        made.accepted(id, context="talk")
    made.accepted("other", context="talk", owner="acme/bob")
    for n in range(30):
        made.add(f"t{1 + n % 2}", message(f"m{n}"), message(f"n{n}"))
    for id in ("t2", "t1", "t3"):
        made.add(id, TaskCompleted(output=f"from {id}"))
    await made.apply()
    messages = {
        id: [text for n in range(30) if f"t{1 + n % 2}" == id for text in (f"m{n}", f"n{n}")] for id in ("t1", "t2")
    }
    expected = [
        (id, text) for id in ("t1", "t2", "t3") for text in (f"to {id}", *messages.get(id, ()), f"from {id}")
    ]  # fmt: skip
    for limit in (1, 2, 7, 30, 100):
        request = HistoryRequest(v=1, context_id="talk", owner="acme/ann", limit=limit)
        assert said(await all_pages(made, queries.history, request, "messages")) == expected
    everybody = await all_pages(made, queries.history, HistoryRequest(v=1, context_id="talk", limit=3), "messages")
    assert said(everybody) == [*expected, ("other", "to other")]


async def test_a_page_of_a_conversation_reads_the_bodies_that_it_shows_and_no_others(made: Made) -> None:
    for n in range(12):
        made.accepted(f"t{n}", context="talk")
        made.add(f"t{n}", message("x" * 100 * KIB))
    await made.apply()
    read = _bodies_read(made.database)
    answer = await made.ask(queries.history, HistoryRequest(v=1, context_id="talk"))
    assert 4 * 100 * KIB < sum(read) < queries.MAX_PAGE_BYTES
    assert len(answer.messages) < 12
    pages = await all_pages(made, queries.history, HistoryRequest(v=1, context_id="talk"), "messages")
    assert [len(one.content) for page in pages for one in page if one.content[0] == "x"] == [100 * KIB] * 12


async def test_a_message_larger_than_a_page_is_a_page(made: Made) -> None:
    made.accepted("t", context="talk")
    made.add("t", message("x" * (queries.MAX_PAGE_BYTES + 1)))
    made.add("t", message("y"))
    await made.apply()
    pages = await all_pages(made, queries.history, HistoryRequest(v=1, context_id="talk"), "messages")
    assert [len(page) for page in pages] == [1, 1, 1]


async def test_what_is_too_large_for_a_task_is_named_and_never_read(made: Made) -> None:
    made.accepted("t")
    made.add("t", message("m" * 600 * KIB))
    for n in range(40):
        made.add("t", artifact(f"a{n}".ljust(10 * KIB)))
    made.add("t", TaskCompleted(output="o" * 500 * KIB))
    await made.apply()
    read = _bodies_read(made.database)
    detail = (await made.ask(queries.get, GetRequest(v=1, id="t"))).detail
    assert sum(read) <= queries.MAX_BODIES_BYTES
    assert (detail.input, len(detail.output)) == ("to t", 500 * KIB)
    assert [one.name.strip() for one in detail.artifacts] == [f"a{n}" for n in range(len(detail.artifacts))]
    assert 20 < len(detail.artifacts) < 30
    assert detail.omitted == ("artifacts",)


async def test_a_body_that_does_not_fit_does_not_push_out_small_ones(made: Made) -> None:
    made.accepted("t")
    made.add("t", artifact("a"))
    made.add("t", TaskFailed(error=Error(code="handler_error", message="e" * 800 * KIB)))
    await made.apply()
    detail = (await made.ask(queries.get, GetRequest(v=1, id="t"))).detail
    assert (detail.input, detail.error, detail.omitted) == ("to t", None, ("error",))
    assert [one.name for one in detail.artifacts] == ["a"]


async def test_no_more_artifacts_are_told_than_may_be(made: Made) -> None:
    made.accepted("t")
    for n in range(4):
        made.add("t", artifact(f"a{n}"))
    await made.apply()
    detail = (await made.ask(partial(queries.get, artifacts=3), GetRequest(v=1, id="t"))).detail
    assert ([one.name for one in detail.artifacts], detail.omitted) == (["a0", "a1", "a2"], ("artifacts",))


async def test_of_tasks_that_fit_several_filters_every_one_is_on_one_page(made: Made) -> None:
    chance = random.Random(3)
    for n in range(150):
        given = {"owner": f"acme/{chance.randrange(3)}", "agent": f"a{chance.randrange(3)}"}
        made.ended(f"t{n}", failed=chance.random() < 0.1, context=f"c{chance.randrange(3)}", **given)
    await made.apply()
    everything = [one for page in await all_pages(made, queries.tasks_like, ALL, "tasks") for one in page]
    assert [one.status_sequence for one in everything] == sorted(range(3, 453, 3), reverse=True)
    filters: dict[str, str] = {"state": "failed", "agent": "a1", "owner": "acme/2", "context_id": "c0"}
    for chosen in range(32):
        wanted = {name: value for bit, (name, value) in enumerate(filters.items()) if chosen >> bit & 1}
        since = at(100) if chosen >> 4 else None
        fitting = [
            one for one in everything
            if (since or "") <= one.status_at and all(getattr(one, name) == value for name, value in wanted.items())
        ]  # fmt: skip
        request = replace(ALL, limit=4, since=since, **wanted)
        pages = await all_pages(made, partial(queries.tasks_like, look=10), request, "tasks")
        assert [one for page in pages for one in page] == fitting, wanted
        assert all(len(page) <= 4 for page in pages)


@pytest.mark.parametrize(
    ("since", "fitting"),
    [("0001-01-01T00:00:00Z", 3), ("1969-01-01T00:00:00+01:00", 3), ("9999-12-31T23:59:59Z", 0), (at(7), 1)],
)
async def test_any_time_may_be_asked_since(made: Made, since: str, fitting: int) -> None:
    for n in range(3):
        made.ended(f"t{n}")
    await made.apply()
    assert len((await made.ask(queries.tasks_like, replace(ALL, since=since))).tasks) == fitting


async def test_a_question_looks_through_no_more_than_it_may_and_says_where_to_go_on(made: Made) -> None:
    made.ended("wanted", agent="rare", context="talk")
    for n in range(25):
        made.ended(f"t{n}", context="talk")
    await made.apply()
    request = replace(ALL, agent="rare", context_id="talk")
    pages: list[list[TaskRecord]] = await all_pages(made, partial(queries.tasks_like, look=10), request, "tasks")
    assert [[one.id for one in page] for page in pages] == [[], [], ["wanted"]]


async def test_the_row_of_a_conversation_follows_from_its_tasks_whatever_comes_and_goes(made: Made) -> None:
    chance = random.Random(5)
    open_: list[str] = []
    there: list[str] = []
    seen = 0
    for n in range(200):
        id = f"t{n}" if chance.random() < 0.9 or not there else chance.choice(there)
        context = chance.choice(["c0", "c1", f"t{chance.randrange(200)}", None])
        made.accepted(id, context=context, owner=f"acme/{chance.randrange(2)}")
        open_, there = [one for one in open_ if one != id] + [id], [one for one in there if one != id] + [id]
        if chance.random() < 0.6:
            made.add(open_.pop(chance.randrange(len(open_))), TaskCompleted(output=1))
        if chance.random() < 0.3:
            await made.apply()
            gone = chance.sample(there, min(len(there), 2))
            made.purged(gone)
            await made.apply()
            open_, there = [one for one in open_ if one not in gone], [one for one in there if one not in gone]
            follows = await made.ask(_follows)
            assert await made.ask(_talks) == follows
            seen = max(seen, len(follows))
    assert seen > 10


async def test_conversations_are_paged_the_newest_first_and_one_task_alone_is_none(made: Made) -> None:
    for n in range(9):
        made.ended(f"t{n}", context=f"c{n % 5}", owner=f"acme/{n % 2}")
    made.ended("alone")
    made.ended("first")
    made.ended("second", context="first")
    await made.apply()
    pages = await all_pages(made, contexts.contexts, ContextsRequest(v=1, limit=2), "contexts")
    told = [(one.context_id, one.owner, one.tasks) for page in pages for one in page]
    assert told[0] == ("first", "acme/ann", 2)
    assert told[1:4] == [("c3", "acme/0", 1), ("c2", "acme/1", 1), ("c1", "acme/0", 1)]
    assert sum(tasks for *_, tasks in told[1:]) == 9
    order = [one.status_sequence for page in pages for one in page]
    assert all(newer > older for newer, older in pairwise(order))


async def test_what_is_due_is_found_past_what_is_still_needed(made: Made) -> None:
    for n in range(7):
        made.ended(f"kept{n}", context="talk")
        made.ended(f"due{n}")
    made.accepted("open", context="talk")
    await made.apply()
    found, looked, rounds = dict[str, int](), retention.Due({}, ("", "")), 0
    while looked.end is not None:
        looked = await made.ask(retention.due_for_purge, at(made.sequence + 1), 3, looked.end)
        found, rounds = found | looked.logs, rounds + 1
    assert list(found) == [f"due{n}" for n in range(7)]
    assert rounds == 5


async def test_a_token_of_a_wrong_shape_and_a_state_that_is_none_are_refused(made: Made) -> None:
    await made.apply()
    asked: list[tuple[Any, Any]] = [
        (queries.tasks_like, replace(ALL, page_token=token([None] * 5, []))),
        (queries.tasks_like, replace(ALL, page_token=token([None] * 5, [1, 2]))),
        (queries.history, HistoryRequest(v=1, context_id="c", page_token=token(["c", None], [1]))),
        (contexts.contexts, ContextsRequest(v=1, page_token=token(["contexts", None], [1, 2, 3]))),
    ]
    for question, request in asked:
        with pytest.raises(InvalidInput, match="page token"):
            await made.ask(question, request)
    with pytest.raises(InvalidInput, match="done") as refused:
        await made.ask(queries.tasks_like, replace(ALL, state="done"))
    assert "completed" in str(refused.value.hint)


def _talks(connection: Connection) -> set[tuple[Any, ...]]:
    return {tuple(row) for row in connection.execute(select(*[c for c in talks.c if c.name not in ("view", "named")]))}


def _follows(connection: Connection) -> set[tuple[Any, ...]]:
    found: dict[tuple[str, str], list[Any]] = {}
    for row in connection.execute(select(rows)):
        found.setdefault((row.context_id, row.owner), []).append(row)
    return {
        (*key, len(of), sum(one.phase != "ended" for one in of), min(one.first for one in of), newest, at(newest))
        for key, of in found.items()
        if any(one.id != one.context_id for one in of)
        for newest in [max(one.status_sequence for one in of)]
    }


def _bodies_read(database: Database) -> list[int]:
    """How many bytes each body has that comes out of the database from now on."""
    sizes: list[int] = []

    def ran(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if "mesh_bodies.body" in statement.partition("FROM")[0]:
            # The rows of that cursor are the caller's; these are the same once more.
            with closing(connection.connection.cursor()) as again:
                again.execute(statement, parameters)
                place = [column[0] for column in again.description].index("body")
                sizes.extend(len(row[place] or "") for row in again.fetchall())

    event.listen(database._engine, "after_cursor_execute", ran)
    return sizes


async def test_a_store_without_a_view_says_so_and_shows_no_empty_list(made: Made) -> None:
    await made.database.write(views.prepare)
    with pytest.raises(ViewBehind):
        await made.ask(queries.tasks_like, ALL)
    with pytest.raises(ViewBehind):
        await made.ask(retention.due_for_purge, at(1), 10)
