from __future__ import annotations

import pytest

from mesh.bus import Bus
from mesh.errors import InvalidInput, MeshError
from mesh.streams import Bucket, Definitions
from mesh.subjects import Subjects
from tests.bus.broker import Broker, Connect, eventually


class View:
    """What a watcher knows."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.gone: list[str] = []

    def take(self, key: str, value: bytes | None) -> None:
        if value is None:
            del self.entries[key]
            self.gone.append(key)
        else:
            self.entries[key] = value


async def with_bucket(bus: Bus, names: Subjects, ttl_s: float = 0.0) -> str:
    await bus.ensure(Definitions(streams=(), buckets=(Bucket(name=names.workers, ttl_s=ttl_s),), consumers=()))
    return names.workers


async def test_a_value_is_put_replaced_and_removed(shared_broker: Broker, connect: Connect, names: Subjects) -> None:
    bus = await connect(shared_broker)
    bucket = await with_bucket(bus, names)
    assert await bus.keys(bucket) == []
    assert await bus.fetch(bucket, "a") is None
    await bus.put(bucket, "a", b"1")
    await bus.put(bucket, "a", b"2")
    await bus.put(bucket, "b.c", b"")
    assert await bus.fetch(bucket, "a") == b"2"
    assert await bus.fetch(bucket, "b.c") == b""
    assert sorted(await bus.keys(bucket)) == ["a", "b.c"]
    await bus.remove(bucket, "a")
    await bus.remove(bucket, "never")
    assert await bus.fetch(bucket, "a") is None
    assert await bus.keys(bucket) == ["b.c"]


@pytest.mark.parametrize("key", ["", "a b", "a.*", ">", ".a", "a..b"])
async def test_a_bad_key_is_refused(shared_broker: Broker, connect: Connect, names: Subjects, key: str) -> None:
    bus = await connect(shared_broker)
    bucket = await with_bucket(bus, names)
    with pytest.raises(InvalidInput):
        await bus.put(bucket, key, b"")


async def test_a_watch_gives_what_is_there_and_then_each_change(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(shared_broker)
    bucket = await with_bucket(bus, names)
    for n in range(1500):
        await bus.put(bucket, f"k{n}", b"old")
    await bus.remove(bucket, "k7")
    view = View()
    watch = await bus.watch(bucket, view.take)
    assert view.entries.keys() == {f"k{n}" for n in range(1500)} - {"k7"}
    await bus.put(bucket, "k1", b"new")
    await bus.remove(bucket, "k2")
    await eventually(lambda: view.entries.get("k1") == b"new" and view.gone == ["k2"])
    await watch.aclose()
    await bus.put(bucket, "k3", b"unseen")
    assert await bus.fetch(bucket, "k3") == b"unseen"
    assert view.entries["k3"] == b"old"


async def test_a_watch_sees_an_entry_expire(shared_broker: Broker, connect: Connect, names: Subjects) -> None:
    bus = await connect(shared_broker)
    bucket = await with_bucket(bus, names, ttl_s=1.0)
    await bus.put(bucket, "a", b"1")
    view = View()
    await bus.watch(bucket, view.take)
    assert view.entries == {"a": b"1"}
    await eventually(lambda: view.gone == ["a"])
    assert await bus.fetch(bucket, "a") is None


async def test_a_watch_survives_the_broker_and_learns_what_it_missed(
    broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(broker)
    bucket = await with_bucket(bus, names)
    await bus.put(bucket, "stays", b"1")
    await bus.put(bucket, "goes", b"1")
    view = View()
    await bus.watch(bucket, view.take)
    for round_ in range(2):
        broker.kill()
        await eventually(lambda: not bus.connected)
        broker.start()
        # A second bus changes things, perhaps before the watch stands again.
        other = await connect(broker)
        await other.put(bucket, "stays", str(round_ + 2).encode())
        await other.purge(f"KV_{bucket}", f"$KV.{bucket}.goes")
        await other.put(bucket, f"new{round_}", b"")
        await eventually(
            lambda: view.entries.get("stays") == str(round_ + 2).encode() and f"new{round_}" in view.entries  # noqa: B023
        )
        await eventually(lambda: "goes" not in view.entries)
        await bus.put(bucket, "goes", b"again")
        await eventually(lambda: "goes" in view.entries)


async def test_a_bucket_that_is_not_there_is_an_error(shared_broker: Broker, connect: Connect) -> None:
    bus = await connect(shared_broker)
    with pytest.raises(MeshError):
        await bus.watch("none", lambda _key, _value: None)
