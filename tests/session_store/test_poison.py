"""Nothing that stands in a log or comes in a question stops a store."""

from __future__ import annotations

import msgspec
import pytest

from mesh.errors import InvalidInput
from mesh.log.head import View, next_commit
from schemas import envelope
from schemas.envelope import event
from schemas.task import TaskAccepted
from tests.integration.world import World
from tests.session_store.test_rules import ACCEPTED, By
from tests.session_store.watching import all_rows

POISON = (
    b"otters",
    b"{}",
    b'{"v":1,"task":"x","n":0,"nonce":"","by":"","at":"","head":{},"events":[]}',
    b"\xff\xfe",
)


def commit(id: str, opening: TaskAccepted = ACCEPTED) -> bytes:
    return envelope.encode(next_commit(View(id), By(), (event(opening),)))


async def append(world: World, id: str, body: bytes) -> int:
    return await world.bus.publish(world.names.task(id), body)


async def test_what_cannot_be_read_or_held_is_skipped_and_counted(world: World, database: str) -> None:
    world.give(database=database)
    store = await world.start("session-store")
    for n, body in enumerate(POISON):
        await append(world, f"bad{n}", body)
    await append(world, "good1", commit("good1"))
    await append(world, "huge", commit("huge", msgspec.structs.replace(ACCEPTED, sequence=2**63)))
    await append(world, "nul", commit("nul", msgspec.structs.replace(ACCEPTED, context_id="a\x00b")))
    await append(world, "newer", commit("newer").replace(b'{"v":1,', b'{"v":7,'))
    last = await append(world, "good2", commit("good2"))
    page = await world.client.tasks(sequence=last)
    assert {"good1", "good2", "newer"} <= {one.id for one in page.tasks}
    await store.stop()
    rows = await all_rows(database)
    (seq, skipped, unknown) = rows["counts"][0]
    assert (seq, unknown) == (last, 0)
    assert skipped + len(page.tasks) == len(POISON) + 5


PURGES = (
    b"otters",
    b'{"v":1,"logs":{"good":1}}',
    b'{"v":1,"by":"x","logs":{"good":"all"}}',
    b'{"v":1,"by":"x","logs":{"a\\u0000b":1}}',
    b'{"v":1,"by":"x","logs":' + b"[" * 1000 + b"]" * 1000 + b"}",
)


async def test_what_says_of_no_log_that_it_is_gone_is_skipped_and_counted(world: World, database: str) -> None:
    world.give(database=database)
    store = await world.start("session-store")
    await append(world, "good", commit("good"))
    for body in PURGES:
        await world.bus.publish(world.names.purged(), body)
    many = {f"none-{n}": 2**62 for n in range(20_000)}
    await world.bus.publish(world.names.purged(), msgspec.json.encode({"v": 7, "by": "x", "logs": many, "new": 1}))
    last = await append(world, "good2", commit("good2"))
    page = await world.client.tasks(sequence=last)
    assert {one.id for one in page.tasks} == {"good", "good2"}
    await store.stop()
    (seq, skipped, _) = (await all_rows(database))["counts"][0]
    assert (seq, len(PURGES) - skipped) in ((last, 0), (last, 1)), "SQLite can look for a NUL"


@pytest.mark.parametrize(
    "body",
    [
        b"otters", b"[]", b'{"v":1,"limit":"x"}', b'{"v":1,"limit":1000}', b'{"v":1,"since":"yesterday"}',
        b'{"v":1,"page_token":"x"}', b'{"v":1,"agent":"a\\u0000b"}',
        b'{"v":1,"since":"9999-12-31T23:59:59.999999999Z"}',
    ],
)  # fmt: skip
async def test_a_question_that_cannot_be_answered_says_why(world: World, database: str, body: bytes) -> None:
    world.give(database=database)
    await world.start("session-store")
    answer = await world.bus.request(world.names.session("tasks"), body, timeout_s=5)
    assert b'"error"' in answer.data or b'"tasks":[]' in answer.data or answer.data.startswith(b'{"v":1')
    await world.client.tasks()


async def test_an_id_that_is_none_and_a_submit_that_cannot_be_are_refused(world: World, database: str) -> None:
    world.give(database=database)
    await world.start("session-store")
    with pytest.raises(InvalidInput):
        await world.client.get("not an id")
    with pytest.raises(InvalidInput):
        await world.client.get(2**70)
