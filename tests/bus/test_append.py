from __future__ import annotations

import asyncio

import pytest

from mesh.bus import Bus, Conflict
from mesh.errors import BusUnavailable, InvalidInput, StorageFull, TooLarge
from mesh.streams import Definitions, Stream
from mesh.subjects import Subjects
from tests.bus.broker import Broker, Connect, eventually


class Notes:
    """An observer that writes down what it is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def before(self, kind: str, subject: str) -> None:
        self.seen.append(f"before {kind} {subject}")

    def after(self, kind: str, subject: str) -> None:
        self.seen.append(f"after {kind} {subject}")


async def test_an_append_on_the_newest_sequence_is_stored(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    first = await bus.append(names.task("t"), b"one", expected=0)
    assert isinstance(first, int)
    second = await bus.append(names.task("t"), b"two", expected=first)
    assert isinstance(second, int)
    newest = await bus.newest(names.tasks, names.task("t"))
    assert newest is not None
    assert (newest.seq, newest.data, newest.subject) == (second, b"two", names.task("t"))


async def test_an_append_on_an_old_sequence_is_a_conflict_that_names_the_newest(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    first = await bus.append(names.task("t"), b"one", expected=0)
    assert isinstance(first, int)
    assert await bus.append(names.task("t"), b"one", expected=0) == Conflict(first)


async def test_of_many_writers_on_one_log_exactly_one_wins(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    answers = await asyncio.gather(*(bus.append(names.task("t"), str(n).encode(), expected=0) for n in range(200)))
    [winner] = [answer for answer in answers if isinstance(answer, int)]
    assert answers.count(Conflict(winner)) == 199


async def test_an_append_without_an_answer_ends_at_its_own_deadline(broker: Broker, connect: Connect) -> None:
    bus = await connect(broker)
    await bus.ensure(Definitions(streams=(Stream(name="S", subjects=("s.>",)),), buckets=(), consumers=()))
    broker.freeze()
    patient = asyncio.create_task(bus.append("s.patient", b"", expected=0, timeout_s=60))
    appends = [bus.append(f"s.{n}", b"", expected=0, timeout_s=0.1 + n / 1000) for n in range(50)]
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert all(isinstance(result, BusUnavailable) for result in results)
    assert not patient.done()
    broker.thaw()
    assert isinstance(await patient, int)


async def test_when_the_broker_dies_all_waiting_appends_fail_at_once_and_none_is_sent_later(
    broker: Broker, connect: Connect
) -> None:
    bus = await connect(broker)
    await bus.ensure(Definitions(streams=(Stream(name="S", subjects=("s.>",)),), buckets=(), consumers=()))
    broker.freeze()
    # More than the socket takes, so that most of it waits inside the client when the broker dies.
    body = b"x" * 100_000
    appends = [asyncio.create_task(bus.append(f"s.{n}", body, expected=0, timeout_s=60)) for n in range(500)]
    await asyncio.sleep(0)
    broker.kill()
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert all(isinstance(result, BusUnavailable) for result in results)
    with pytest.raises(BusUnavailable):
        await bus.append("s.late", b"", expected=0)

    broker.start()
    await bus.wait_connected()
    marker = await bus.append("s.marker", b"", expected=0)
    assert marker == 1, "something older was stored before it"


async def test_after_a_restart_appends_go_on(broker: Broker, connect: Connect) -> None:
    bus = await connect(broker)
    await bus.ensure(Definitions(streams=(Stream(name="S", subjects=("s.>",)),), buckets=(), consumers=()))
    returned = asyncio.Event()
    bus.on_reconnect(returned.set)
    for expected in range(3):
        assert await bus.append("s.a", b"", expected=expected) == expected + 1
        broker.kill()
        await eventually(lambda: not bus.connected)
        broker.start()
        await returned.wait()
        returned.clear()


async def test_a_full_stream_says_so(shared_broker: Broker, connect: Connect, names: Subjects) -> None:
    bus = await connect(shared_broker)
    small = Stream(name=names.tasks, subjects=(f"{names.prefix}.task.>",), max_bytes=1000, discard_new=True)
    await bus.ensure(Definitions(streams=(small,), buckets=(), consumers=()))
    answers = [await stored(bus, names.task(f"t{n}"), b"x" * 300) for n in range(5)]
    assert answers[0] is True
    assert answers[-1] is False


async def stored(bus: Bus, subject: str, data: bytes) -> bool:
    try:
        await bus.append(subject, data, expected=0)
    except StorageFull:
        return False
    return True


async def test_a_message_larger_than_the_broker_takes_does_not_cost_the_connection(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    for size in (1024 * 1024 - 10, 2 * 1024 * 1024):
        with pytest.raises(TooLarge):
            await bus.append(names.task("t"), b"x" * size, expected=0)
    assert isinstance(await bus.append(names.task("t"), b"", expected=0), int)


async def test_a_subject_cannot_smuggle_a_command(shared_broker: Broker, connect: Connect) -> None:
    bus = await connect(shared_broker)
    with pytest.raises(InvalidInput):
        await bus.append("a.b\r\nPUB c 0\r\n\r\n", b"", expected=0)


async def test_a_publish_that_no_stream_takes_fails_fast(shared_broker: Broker, connect: Connect) -> None:
    bus = await connect(shared_broker)
    with pytest.raises(BusUnavailable, match="nobody answers"):
        await bus.publish("nobody.listens", b"", timeout_s=60)


async def test_a_repeated_message_id_is_no_error_of_a_command(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    headers = {"Nats-Msg-Id": "run:t:1"}
    seq = await bus.publish(names.run("shop"), b"", headers=headers)
    assert await bus.publish(names.run("shop"), b"", headers=headers) == seq


async def test_an_observer_sees_each_write_before_and_after(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    notes = Notes()
    bus: Bus = await connect(shared_broker, observer=notes)
    await bus.ensure(needed)
    await bus.append(names.task("t"), b"", expected=0)
    await bus.publish(names.run("shop"), b"")
    await bus.send(names.delta("t"), b"")
    kinds = [("append", names.task("t")), ("publish", names.run("shop")), ("send", names.delta("t"))]
    assert notes.seen == [f"{when} {kind} {subject}" for kind, subject in kinds for when in ("before", "after")]
