"""Following a stream: in order, once, whatever breaks."""

from __future__ import annotations

import asyncio

from mesh.bus import Bus, Follow, Followed, StoredMessage
from mesh.errors import BusUnavailable
from mesh.streams import Definitions, Stream
from mesh.subjects import Subjects
from mesh.testing import eventually
from tests.bus.broker import Broker, Connect


async def with_stream(bus: Bus, names: Subjects) -> str:
    stream = Stream(name=names.tasks, subjects=(f"{names.prefix}.task.>",))
    await bus.ensure(Definitions(streams=(stream,), buckets=(), consumers=()))
    return names.tasks


async def write(bus: Bus, names: Subjects, first: int, last: int) -> None:
    for n in range(first, last + 1):
        await bus.publish(names.task(f"t{n % 7}"), str(n).encode())


async def written(bus: Bus, names: Subjects) -> int:
    """Writes some, unless the broker is away; the newest sequence."""
    try:
        await write(bus, names, 1, 500)
        return await bus.last_sequence(names.tasks)
    except BusUnavailable:
        return 0


async def until(follow: Follow, seq: int) -> tuple[list[StoredMessage], Followed]:
    found: list[StoredMessage] = []
    while True:
        came = await asyncio.wait_for(follow.next(), 20)
        found += came.messages
        if came.upto >= seq:
            return found, came


async def test_everything_after_a_sequence_comes_in_order_and_then_what_is_new(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(shared_broker)
    stream = await with_stream(bus, names)
    await write(bus, names, 1, 3000)
    follow = await bus.follow(stream, after=500)
    found, came = await until(follow, 3000)
    assert [int(one.data) for one in found] == list(range(501, 3001))
    assert [one.seq for one in found] == list(range(501, 3001))
    assert came.caught_up
    assert came.created == await bus.stream_created(stream)
    await write(bus, names, 3001, 3001)
    found, came = await until(follow, 3001)
    assert [int(one.data) for one in found] == [3001]
    await follow.aclose()


async def test_it_says_up_to_where_nothing_is_missing_also_when_the_newest_were_purged(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(shared_broker)
    stream = await with_stream(bus, names)
    await write(bus, names, 1, 14)
    await bus.purge(stream, names.task("t0"))
    follow = await bus.follow(stream, after=0)
    found, came = await until(follow, 14)
    assert [int(one.data) for one in found] == [n for n in range(1, 15) if n % 7]
    assert came.caught_up
    await follow.aclose()


async def test_a_check_tells_that_what_was_purged_will_not_come(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(shared_broker)
    stream = await with_stream(bus, names)
    follow = await bus.follow(stream, after=0)
    assert (await follow.next()).caught_up
    await write(bus, names, 1, 7)
    await bus.purge(stream, names.task("t0"))
    await until(follow, 6)

    async def checked() -> bool:
        await follow.check()
        return follow._covered == 7

    await eventually(checked)
    await follow.aclose()


async def test_a_reader_goes_on_after_what_it_has_had_and_keeps_what_it_was_told_beyond(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(shared_broker)
    stream = await with_stream(bus, names)
    await write(bus, names, 1, 7)
    await bus.purge(stream, names.task("t0"))
    follow = await bus.follow(stream, after=6, covered=7)
    came = await follow.next()
    assert (came.messages, came.upto, came.caught_up) == ([], 7, True)
    await write(bus, names, 8, 8)
    found, _ = await until(follow, 8)
    assert [one.seq for one in found] == [8]
    await follow.aclose()


async def test_what_comes_where_nothing_was_said_to_be_is_not_kept_back(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(shared_broker)
    stream = await with_stream(bus, names)
    await write(bus, names, 1, 9)
    follow = await bus.follow(stream, after=6, covered=8)
    assert (await follow.next()).upto == 8
    came = await asyncio.wait_for(follow.next(), 20)
    assert [one.seq for one in came.messages][:1] == [7]
    await follow.aclose()


async def test_what_was_there_and_is_purged_before_it_comes_holds_nobody_up(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(shared_broker)
    stream = await with_stream(bus, names)
    await write(bus, names, 1, 3)
    follow = await bus.follow(stream, after=0)
    await write(bus, names, 4, 7)
    await bus.purge(stream, names.task("t0"))
    await follow.check()
    found, came = await until(follow, 7)
    assert [one.seq for one in found] in (list(range(1, 7)), list(range(1, 8)))
    assert came.caught_up
    await follow.aclose()


async def test_nothing_is_missed_or_told_twice_over_restarts_of_the_broker(
    broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(broker)
    stream = await with_stream(bus, names)
    follow = await bus.follow(stream, after=0)
    told: list[int] = []
    for _ in range(3):
        await eventually(lambda: written(bus, names))
        found, _ = await until(follow, len(told) + 100)
        told += [one.seq for one in found]
        broker.kill()
        broker.start()
    last = await eventually(lambda: written(bus, names))
    found, _ = await until(follow, last)
    assert told + [one.seq for one in found] == list(range(1, last + 1))
    await follow.aclose()


async def test_a_stream_that_is_shorter_than_what_was_read_is_told(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(shared_broker)
    stream = await with_stream(bus, names)
    await write(bus, names, 1, 3)
    follow = await bus.follow(stream, after=100)
    assert (await follow.next()).upto == 3
    await follow.aclose()


async def test_no_more_is_asked_for_than_the_broker_sends_ahead_however_large_the_messages_are(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(shared_broker)
    stream = await with_stream(bus, names)
    for _ in range(90):
        await bus.publish(names.task("large"), bytes(500_000))
    await write(bus, names, 91, 2_000)
    lost: list[str] = []
    bus.on_reconnect(lambda: lost.append("a connection"))
    follow = await bus.follow(stream, after=0)
    most = 0
    while (came := await follow.next()).upto < 2_000:
        await bus.last_sequence(stream)  # while more could come
        most = max(most, follow._puller.in_flight if follow._puller else 0)
        if came.upto < 90:
            assert most * 500_000 <= 64 * 1024 * 1024
    assert most > 100
    assert not lost
    await follow.aclose()
