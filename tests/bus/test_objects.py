"""Object buckets on a real server, also as the NATS client library's own object store sees them."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest

from mesh.bus import Bus
from mesh.bus.objects import CHUNK_BYTES
from mesh.errors import ArtifactDamaged, ArtifactMissing, BusUnavailable, StorageFull
from mesh.streams import Definitions, ObjectBucket
from mesh.subjects import Subjects
from schemas.object import digest_of
from tests.bus.broker import Broker, Connect, eventually

MIB = 1024 * 1024
ABSENT = digest_of(b"never kept")


async def with_objects(bus: Bus, names: Subjects) -> str:
    wanted = Definitions(streams=(), buckets=(), consumers=(), objects=(ObjectBucket(name=names.artifacts),))
    await bus.ensure(wanted)
    assert await bus.ensure(wanted) == []
    return names.artifacts


async def body_of(bus: Bus, bucket: str, digest: str) -> bytes:
    return b"".join([piece async for piece in bus.open_object(bucket, digest)])


async def chunks_in(bus: Bus, bucket: str) -> int:
    """All chunks that take room, whoever refers to them."""
    return len([one async for one in bus.last_per_subject(f"OBJ_{bucket}", f"$O.{bucket}.C.>")])


async def in_pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 10 * MIB])
@pytest.mark.parametrize("piece", [None, 1000, MIB])
async def test_a_body_comes_back_as_it_was_put(
    shared_broker: Broker, connect: Connect, names: Subjects, size: int, piece: int | None
) -> None:
    bus = await connect(shared_broker)
    bucket = await with_objects(bus, names)
    body = secrets.token_bytes(size)
    kept = await bus.put_object(bucket, body if piece is None else in_pieces(body, piece))
    assert (kept.digest, kept.size) == (f"sha256-{hashlib.sha256(body).hexdigest()}", size)
    assert await body_of(bus, bucket, kept.digest) == body
    assert await bus.find_object(bucket, kept.digest) == kept


async def test_a_stream_is_never_held_as_a_whole(shared_broker: Broker, connect: Connect, names: Subjects) -> None:
    bus = await connect(shared_broker)
    bucket = await with_objects(bus, names)

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(64):
            yield bytes([number]) * (MIB // 2)

    tracemalloc.start()
    try:
        kept = await bus.put_object(bucket, pieces())
        read = sum([len(piece) async for piece in bus.open_object(bucket, kept.digest)])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read == kept.size == 32 * MIB
    assert most < 16 * MIB


async def test_the_nats_object_store_reads_what_we_write_and_lists_it(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(shared_broker)
    bucket = await with_objects(bus, names)
    body = secrets.token_bytes(300_000)
    kept = await bus.put_object(bucket, body)
    client = await nats.connect(shared_broker.url)
    try:
        store = await client.jetstream().object_store(bucket)
        found = await store.get(kept.digest)
        assert found.data == body
        assert [info.name for info in await store.list()] == [kept.digest]
        assert (found.info.size, found.info.chunks) == (300_000, 3)
        await store.delete(kept.digest)
    finally:
        await client.close()
    assert await bus.find_object(bucket, kept.digest) is None


async def test_the_same_content_is_kept_once(shared_broker: Broker, connect: Connect, names: Subjects) -> None:
    bus = await connect(shared_broker)
    bucket = await with_objects(bus, names)
    body = secrets.token_bytes(MIB)
    first = await bus.put_object(bucket, body)
    assert await bus.put_object(bucket, body) == first
    assert await bus.put_object(bucket, in_pieces(body, 70_000)) == first
    assert await chunks_in(bus, bucket) == 1
    assert [one async for one in bus.objects(bucket)] == [first]


async def test_of_many_uploads_of_one_content_at_once_one_stays(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(shared_broker)
    bucket = await with_objects(bus, names)
    body = secrets.token_bytes(MIB)
    kept = await asyncio.gather(*(bus.put_object(bucket, in_pieces(body, 100_000 + n)) for n in range(5)))
    assert len(set(map(str, kept))) == 1
    assert await chunks_in(bus, bucket) == 1
    assert await body_of(bus, bucket, kept[0].digest) == body


async def test_what_is_not_there_is_missing(shared_broker: Broker, connect: Connect, names: Subjects) -> None:
    bus = await connect(shared_broker)
    bucket = await with_objects(bus, names)
    assert await bus.find_object(bucket, ABSENT) is None
    await bus.remove_object(bucket, ABSENT)
    for digest in (ABSENT, "report.pdf", "*", ""):
        with pytest.raises(ArtifactMissing):
            await body_of(bus, bucket, digest)


async def test_a_bucket_that_somebody_removed_is_named(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(shared_broker)
    bucket = await with_objects(bus, names)
    await bus.request(f"$JS.API.STREAM.DELETE.OBJ_{bucket}", b"", timeout_s=5)
    for asked in (
        bus.find_object(bucket, ABSENT),
        body_of(bus, bucket, ABSENT),
        bus.put_object(bucket, b"x"),
        bus.put_object(bucket, in_pieces(b"xyz", 1)),
    ):
        with pytest.raises(BusUnavailable, match=f"bucket '{bucket}' is not there .*doctor --apply"):
            await asked


async def test_a_removed_body_is_gone_and_may_be_put_again(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(shared_broker)
    bucket = await with_objects(bus, names)
    kept = await bus.put_object(bucket, b"x" * 200_000)
    await bus.remove_object(bucket, kept.digest)
    await bus.remove_object(bucket, kept.digest)
    assert await bus.find_object(bucket, kept.digest) is None
    assert [one async for one in bus.objects(bucket)] == []
    assert await chunks_in(bus, bucket) == 0
    assert await bus.put_object(bucket, b"x" * 200_000) == kept
    assert await body_of(bus, bucket, kept.digest) == b"x" * 200_000


@pytest.mark.parametrize("damage", ["lost", "changed", "added"])
async def test_damage_is_detected(shared_broker: Broker, connect: Connect, names: Subjects, damage: str) -> None:
    bus = await connect(shared_broker)
    bucket = await with_objects(bus, names)
    kept = await bus.put_object(bucket, secrets.token_bytes(300_000))
    newest = [one async for one in bus.last_per_subject(f"OBJ_{bucket}", f"$O.{bucket}.C.>")]
    subject = newest[0].subject
    chunks = await bus.read(f"OBJ_{bucket}", subject, first=1)
    await bus.purge(f"OBJ_{bucket}", subject)
    wrong = {
        "lost": [one.data for one in chunks[:-1]],
        "changed": [chunks[0].data[:-1] + b"?", *(one.data for one in chunks[1:])],
        "added": [b"?", *(one.data for one in chunks)],
    }
    for data in wrong[damage]:
        await bus.publish(subject, data)
    with pytest.raises(ArtifactDamaged):
        await body_of(bus, bucket, kept.digest)


async def test_a_source_that_fails_leaves_nothing(shared_broker: Broker, connect: Connect, names: Subjects) -> None:
    bus = await connect(shared_broker)
    bucket = await with_objects(bus, names)

    async def breaks() -> AsyncIterator[bytes]:
        yield secrets.token_bytes(3 * CHUNK_BYTES)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        await bus.put_object(bucket, breaks())
    assert [one async for one in bus.objects(bucket)] == []
    assert await chunks_in(bus, bucket) == 0


async def test_an_upload_that_is_cancelled_leaves_nothing(
    shared_broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(shared_broker)
    bucket = await with_objects(bus, names)
    stuck = asyncio.Event()

    async def sticks() -> AsyncIterator[bytes]:
        yield secrets.token_bytes(3 * CHUNK_BYTES)
        stuck.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(bus.put_object(bucket, sticks()))
    await stuck.wait()
    upload.cancel()
    await asyncio.wait((upload,))
    assert upload.cancelled()
    assert await chunks_in(bus, bucket) == 0


async def test_a_broker_that_dies_in_the_middle_leaves_nothing_visible(
    broker: Broker, connect: Connect, names: Subjects
) -> None:
    bus = await connect(broker)
    bucket = await with_objects(bus, names)

    async def outlives() -> AsyncIterator[bytes]:
        yield secrets.token_bytes(3 * CHUNK_BYTES)
        broker.kill()
        yield secrets.token_bytes(20 * CHUNK_BYTES)

    with pytest.raises(BusUnavailable):
        await bus.put_object(bucket, outlives())
    broker.start()
    await bus.wait_connected()
    await eventually(lambda: bus.connected)
    assert [one async for one in bus.objects(bucket)] == []
    kept = await bus.put_object(bucket, b"again")
    assert await body_of(bus, bucket, kept.digest) == b"again"


async def test_a_full_store_says_so_and_keeps_nothing(tmp_path: Path, connect: Connect, names: Subjects) -> None:
    account = "accounts { A { jetstream { max_file: 2MB }, users: [{user: a, password: a}] } }\nno_auth_user: a"
    own = Broker(tmp_path, account)
    own.start()
    try:
        bus = await connect(own)
        bucket = await with_objects(bus, names)
        with pytest.raises(StorageFull):
            await bus.put_object(bucket, secrets.token_bytes(4 * MIB))
        assert [one async for one in bus.objects(bucket)] == []
        assert await chunks_in(bus, bucket) == 0
    finally:
        own.kill()


async def test_content_that_is_put_again_after_long_is_young_again(
    shared_broker: Broker, connect: Connect, names: Subjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = await connect(shared_broker)
    bucket = await with_objects(bus, names)
    kept = await bus.put_object(bucket, b"otters")
    assert not await bus.remove_object(bucket, kept.digest, older_than_s=60.0)
    meta = f"$O.{bucket}.M.>"
    first = [one.seq async for one in bus.last_per_subject(f"OBJ_{bucket}", meta)]
    await bus.put_object(bucket, b"otters")
    assert [one.seq async for one in bus.last_per_subject(f"OBJ_{bucket}", meta)] == first
    monkeypatch.setattr("mesh.bus.objects.REFRESH_S", 0.0)
    for source in (b"otters", in_pieces(b"otters", 2)):
        await bus.put_object(bucket, source)
        again = [one.seq async for one in bus.last_per_subject(f"OBJ_{bucket}", meta)]
        assert again > first
        first = again
    assert await body_of(bus, bucket, kept.digest) == b"otters"
    assert await bus.remove_object(bucket, kept.digest)
    assert await bus.find_object(bucket, kept.digest) is None
