from __future__ import annotations

from dataclasses import replace

import pytest

from mesh.bus.definitions import covers
from mesh.errors import MeshError, StorageFull, StreamMismatch
from mesh.streams import Bucket, Definitions, Retention, Storage, Stream, run_consumer
from mesh.subjects import Subjects
from tests.bus.broker import Broker, Connect


def only(*streams: Stream) -> Definitions:
    return Definitions(streams=streams, buckets=(), consumers=())


async def test_a_mesh_is_created_once_and_then_left_alone(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    assert not await bus.has_mesh(names)
    assert f"stream {names.work} is missing" in map(str, await bus.inspect(needed))
    done = await bus.ensure(needed)
    assert f"created stream {names.tasks}" in done
    assert f"created consumer router_submit of {names.work}" in done
    assert await bus.ensure(needed) == []
    assert await bus.inspect(needed) == []
    assert await bus.has_mesh(names)
    assert "T" in await bus.stream_created(names.tasks)


async def test_a_stream_that_is_not_there_has_no_birthday(shared_broker: Broker, connect: Connect) -> None:
    bus = await connect(shared_broker)
    with pytest.raises(MeshError, match="no stream"):
        await bus.stream_created("NONE")


async def test_what_adds_is_applied_and_said(shared_broker: Broker, connect: Connect, names: Subjects) -> None:
    bus = await connect(shared_broker)
    p = names.prefix
    old = Stream(name=names.tasks, subjects=(f"{p}.task.>",), allow_direct=False, duplicate_window_s=10.0)
    new = Stream(
        name=names.tasks,
        subjects=(f"{p}.task.>", f"{p}.context.>"),
        deny_delete=True,
        discard_new=True,
        republish=(f"{p}.task.>", f"{p}.log.>"),
    )
    await bus.ensure(only(old))
    inspected = await bus.inspect(only(new))
    assert any(one.field == "subjects" for one in inspected)
    done = await bus.ensure(only(new))
    assert len(done) == len(inspected) == 6
    assert await bus.inspect(only(new)) == []


async def test_sizes_are_the_operators(shared_broker: Broker, connect: Connect, names: Subjects) -> None:
    bus = await connect(shared_broker)
    ours = Stream(name=names.tasks, subjects=(f"{names.prefix}.task.>",))
    await bus.ensure(only(replace(ours, max_bytes=10_000_000, max_age_s=3600.0)))
    assert await bus.ensure(only(ours)) == []


@pytest.mark.parametrize("change", [{"storage": Storage.MEMORY}, {"retention": Retention.WORK_QUEUE}])
async def test_what_cannot_be_changed_is_refused_with_both_sides(
    shared_broker: Broker, connect: Connect, names: Subjects, change: dict[str, object]
) -> None:
    bus = await connect(shared_broker)
    ours = Stream(name=names.tasks, subjects=(f"{names.prefix}.task.>",))
    other = replace(ours, **change)  # type: ignore[arg-type]
    await bus.ensure(only(other))
    [(field, value)] = change.items()
    with pytest.raises(StreamMismatch, match=f'{field} is "{value}", the mesh needs') as caught:
        await bus.ensure(only(replace(ours, discard_new=True)))
    assert getattr(ours, field).value in str(caught.value)
    assert [one.fixable for one in await bus.inspect(only(ours)) if one.field == field] == [False]


async def test_a_republish_to_elsewhere_is_refused(shared_broker: Broker, connect: Connect, names: Subjects) -> None:
    bus = await connect(shared_broker)
    p = names.prefix
    ours = Stream(name=names.tasks, subjects=(f"{p}.task.>",), republish=(f"{p}.task.>", f"{p}.log.>"))
    await bus.ensure(only(replace(ours, republish=(f"{p}.task.>", f"{p}.other.>"))))
    with pytest.raises(StreamMismatch, match="republish"):
        await bus.ensure(only(ours))


async def test_a_stream_that_an_operator_bounds_refuses_what_is_new_and_drops_nothing(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    dropping = (names.deltas, names.work)  # a cache, and one that cannot refuse because it has schedules
    kept = [replace(one, max_bytes=4_000) for one in needed.streams if one.name not in dropping]
    await bus.ensure(only(*kept))
    for stream in kept:
        subject = stream.subjects[0].replace(">", "t")
        first = await bus.publish(subject, b"x" * 1_000)
        for _ in range(2):
            await bus.publish(subject, b"x" * 1_000)
        with pytest.raises(StorageFull):
            await bus.publish(subject, b"x" * 1_000)
        assert await bus.get(stream.name, first) is not None


async def test_a_consumer_takes_a_new_time_to_answer(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    consumer = run_consumer(names, "shop")
    await bus.ensure_consumer(consumer)
    slower = replace(consumer, ack_wait_s=7.0)
    with_it = Definitions(streams=(), buckets=(), consumers=(slower,))
    [found] = await bus.inspect(with_it)
    assert str(found).endswith("ack_wait is 3 s, the mesh needs 7 s")
    assert await bus.ensure(with_it, tune=False) == []
    assert await bus.inspect(with_it) == [found]
    await bus.ensure_consumer(slower)
    assert await bus.inspect(with_it) == []


async def test_a_bucket_is_made_for_direct_reads(shared_broker: Broker, connect: Connect, names: Subjects) -> None:
    bus = await connect(shared_broker)
    needed = Definitions(streams=(), buckets=(Bucket(name=names.workers, ttl_s=10.0),), consumers=())
    assert await bus.ensure(needed) == [f"created stream KV_{names.workers}"]
    assert await bus.inspect(needed) == []


def test_a_pattern_covers_what_all_its_messages_match() -> None:
    assert covers("a.>", "a.b.>")
    assert covers("a.*.c", "a.b.c")
    assert covers("a.*", "a.*")
    assert not covers("a.*", "a.>")
    assert not covers("a.b", "a.*")
    assert not covers("a.>", "a")
    assert not covers("a.b.c", "a.b")
