from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from mesh.bus import Bus
from mesh.errors import BusUnavailable
from mesh.streams import Definitions
from mesh.subjects import Subjects
from tests.bus.broker import Broker, Connect


async def write(bus: Bus, subject: str, count: int) -> list[int]:
    last = 0
    seqs = []
    for n in range(count):
        answer = await bus.append(subject, str(n).encode(), expected=last)
        assert isinstance(answer, int)
        last = answer
        seqs.append(last)
    return seqs


@pytest.mark.parametrize("count", [1, 5, 499, 1_000, 2_345])
async def test_a_log_is_read_whole_in_every_way(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions, count: int
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    mine, _ = await asyncio.gather(write(bus, names.task("a"), count), write(bus, names.task("b"), 20))
    for expected in (0, count, 10_000):
        for leader in (False, True):
            found = await bus.read(names.tasks, names.task("a"), first=mine[0], expected=expected, leader=leader)
            assert [one.seq for one in found] == mine
            assert [one.data for one in found] == [str(n).encode() for n in range(count)]
            assert {one.subject for one in found} == {names.task("a")}
    tail = await bus.read(names.tasks, names.task("a"), first=mine[-1], expected=1)
    assert [one.seq for one in tail] == mine[-1:]


async def test_reading_what_is_not_there_gives_nothing(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    for leader in (False, True):
        assert await bus.newest(names.tasks, names.task("none"), leader=leader) is None
        for expected in (0, 1_000):
            assert await bus.read(names.tasks, names.task("none"), first=1, expected=expected, leader=leader) == []
    assert await bus.get(names.tasks, 1) is None
    [seq] = await write(bus, names.task("a"), 1)
    for expected in (0, 1_000):
        for leader in (False, True):
            found = await bus.read(names.tasks, names.task("a"), first=seq + 1, expected=expected, leader=leader)
            assert found == []


async def test_an_empty_body_is_a_message_and_not_the_end(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    first = await bus.append(names.task("a"), b"", expected=0)
    assert isinstance(first, int)
    await bus.append(names.task("a"), b"x", expected=first)
    found = await bus.read(names.tasks, names.task("a"), first=first)
    assert [one.data for one in found] == [b"", b"x"]
    stored = await bus.get(names.tasks, first)
    assert stored is not None
    assert stored.data == b""


async def test_leader_and_replica_tell_the_same_of_a_message(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    body = bytes(range(256))
    seq = await bus.append(names.task("a"), body, expected=0)
    leader = await bus.newest(names.tasks, names.task("a"), leader=True)
    assert leader == await bus.newest(names.tasks, names.task("a")) == await bus.get(names.tasks, seq)  # type: ignore[arg-type]
    assert leader is not None
    assert leader.data == body
    assert leader.at.endswith("Z")


async def test_a_stream_that_is_not_there_is_an_error(shared_broker: Broker, connect: Connect) -> None:
    bus = await connect(shared_broker)
    with pytest.raises(BusUnavailable):
        await bus.read("NONE", "none.x", first=1)


async def test_the_newest_of_every_subject_is_found_by_one_pass_that_leaves_nothing_behind(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    newest = {}
    for n in range(30):
        newest[names.task(f"t{n}")] = (await write(bus, names.task(f"t{n}"), 1 + n % 3))[-1]
    found = {one.subject: one.seq async for one in bus.last_per_subject(names.tasks, f"{names.prefix}.task.>")}
    assert found == newest
    none = [one async for one in bus.last_per_subject(names.tasks, f"{names.prefix}.context.>")]
    assert none == []
    info = await bus._api.require(f"STREAM.INFO.{names.tasks}", None, dict)
    assert info["state"]["consumer_count"] == 0


async def test_what_is_larger_than_the_broker_sends_ahead_is_read_whole(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    """It cuts a connection off that is 64 MiB behind."""
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    body, count, log = b"x" * 256 * 1024, 600, names.task("log")

    async def write(of: range) -> None:
        for n in of:
            await bus.append(names.task(f"t{n}"), body, expected=0)
        for _ in of:
            await bus.publish(log, body)

    await asyncio.gather(*(write(range(start, count, 10)) for start in range(10)))
    newest = [len(one.data) async for one in bus.last_per_subject(names.tasks, f"{names.prefix}.task.>")]
    assert newest == [len(body)] * (count + 1)
    found = await bus.read(names.tasks, log, first=1, expected=count)
    assert [len(one.data) for one in found] == [len(body)] * count


async def test_a_purged_log_is_empty(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    await write(bus, names.task("a"), 3)
    await write(bus, names.task("b"), 1)
    await bus.purge(names.tasks, names.task("a"))
    assert await bus.newest(names.tasks, names.task("a"), leader=True) is None
    assert await bus.newest(names.tasks, names.task("b"), leader=True) is not None


async def test_large_messages_behind_many_small_ones_are_read_at_the_second_try_at_the_latest(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus, writer = await connect(shared_broker), await connect(shared_broker)
    await writer.ensure(needed)
    subject, last = names.task("long"), 0
    for size in [10] * 2_000 + [700_000] * 150:
        stored = await writer.append(subject, bytes(size), expected=last)
        assert isinstance(stored, int)
        last = stored
    for _ in range(2):
        with suppress(BusUnavailable):
            read = await bus.read(names.tasks, subject, first=1, expected=2_150)
            break
    else:
        raise AssertionError("cut off again")
    assert len(read) == 2_150
