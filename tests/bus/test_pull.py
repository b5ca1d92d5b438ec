from __future__ import annotations

import asyncio
from dataclasses import replace

from mesh.bus import Bus, Delivery, Puller
from mesh.bus.delivery import Verbs
from mesh.bus.scan import parse_ack
from mesh.streams import Consumer, Definitions, run_consumer
from mesh.subjects import Subjects
from tests.bus.broker import Broker, Connect, eventually


class Worker:
    """Takes deliveries and keeps them."""

    def __init__(self) -> None:
        self.held: list[Delivery] = []
        self.most = 0

    def take(self, delivery: Delivery) -> None:
        self.held.append(delivery)
        self.most = max(self.most, len(self.held))

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.data for delivery in self.held]

    async def finish_one(self, puller: Puller) -> Delivery:
        await eventually(lambda: bool(self.held))
        delivery = self.held.pop(0)
        await delivery.ack()
        puller.release()
        return delivery


def shop(names: Subjects, **changes: object) -> Consumer:
    return replace(run_consumer(names, "shop"), **changes)  # type: ignore[arg-type]


async def fill(bus: Bus, names: Subjects, count: int, start: int = 0) -> None:
    await asyncio.gather(*(bus.publish(names.run("shop"), str(n).encode()) for n in range(start, start + count)))


async def test_every_message_is_delivered_once_and_never_more_than_the_slots(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    await bus.ensure_consumer(shop(names))
    await fill(bus, names, 500)
    for slots in (1, 3, 50):
        worker = Worker()
        puller = await bus.pull(names.runs, "run_shop", worker.take, slots=slots)
        done = [await worker.finish_one(puller) for _ in range(100)]
        assert all(delivery.delivered == 1 for delivery in done)
        assert worker.most <= slots
        await puller.aclose()
        assert puller.in_flight == len(worker.held)
        for delivery in worker.held:
            await delivery.ack()
        await fill(bus, names, len(worker.held))


async def test_a_delivery_says_where_it_comes_from(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    await bus.ensure_consumer(shop(names))
    seq = await bus.publish(names.run("shop"), b"body", headers={"Shop-Kind": "toys"})
    worker = Worker()
    await bus.pull(names.runs, "run_shop", worker.take, slots=5)
    await eventually(lambda: bool(worker.held))
    [delivery] = worker.held
    assert (delivery.subject, delivery.data, delivery.seq) == (names.run("shop"), b"body", seq)
    assert (delivery.delivered, delivery.pending) == (1, 0)
    assert delivery.headers is not None
    assert delivery.headers["Shop-Kind"] == "toys"
    assert delivery.at > 1.7e9


def test_the_ack_subject_is_read_with_and_without_a_domain() -> None:
    plain = parse_ack("$JS.ACK.WORK.run_shop.3.42.7.1700000000000000000.5")
    domain = parse_ack("$JS.ACK.hub.hash.WORK.run_shop.3.42.7.1700000000000000000.5.token")
    assert plain == domain == (3, 42, 1700000000000000000, 5)


async def test_what_is_not_answered_in_time_is_delivered_again(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    await bus.ensure_consumer(shop(names, ack_wait_s=0.2))
    await fill(bus, names, 1)
    worker = Worker()
    await bus.pull(names.runs, "run_shop", worker.take, slots=2)
    await eventually(lambda: len(worker.held) == 2)
    assert [delivery.delivered for delivery in worker.held] == [1, 2]


async def test_a_negative_answer_brings_a_message_back_at_once_and_a_progress_holds_it(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    await bus.ensure_consumer(shop(names, ack_wait_s=60.0))
    await fill(bus, names, 1)
    worker = Worker()
    puller = await bus.pull(names.runs, "run_shop", worker.take, slots=1)
    for count in range(1, 4):
        await eventually(lambda: bool(worker.held))
        delivery = worker.held.pop()
        assert delivery.delivered == count
        await delivery.in_progress()
        assert await delivery.confirm()
        await delivery.nak(0.05 if count == 1 else 0.0)
        puller.release()


async def test_a_pull_goes_on_after_the_broker_came_back(
    broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(broker)
    await bus.ensure(needed)
    await bus.ensure_consumer(shop(names, ack_wait_s=0.3))
    await fill(bus, names, 3)
    worker = Worker()
    puller = await bus.pull(names.runs, "run_shop", worker.take, slots=4)
    await eventually(lambda: len(worker.held) == 3)
    held, worker.held = worker.held, []
    broker.kill()
    await eventually(lambda: not bus.connected)
    for delivery in held:
        await delivery.ack()
        assert not await delivery.confirm()
        puller.release()
    broker.start()
    await bus.wait_connected()
    await fill(bus, names, 5, start=3)
    seen = {(await worker.finish_one(puller)).data for _ in range(8)}
    assert seen == {str(n).encode() for n in range(8)}
    assert worker.most <= 4


async def test_a_paused_puller_asks_for_nothing_and_goes_on_when_resumed(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    await bus.ensure_consumer(shop(names))
    worker = Worker()
    puller = await bus.pull(names.runs, "run_shop", worker.take, slots=1)
    await fill(bus, names, 3)
    await eventually(lambda: len(worker.held) == 1)
    puller.pause()
    await worker.finish_one(puller)
    assert puller.in_flight == 0
    other = Worker()
    second = await bus.pull(names.runs, "run_shop", other.take, slots=1)
    await other.finish_one(second)
    await eventually(lambda: bool(other.held))
    assert not worker.held
    await second.aclose()
    await other.held.pop().nak()
    puller.resume()
    await worker.finish_one(puller)


async def test_a_consumer_that_is_made_again_is_found_again(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    await bus.ensure_consumer(shop(names))
    worker = Worker()
    puller = await bus.pull(names.runs, "run_shop", worker.take, slots=2)
    await fill(bus, names, 1)
    await worker.finish_one(puller)
    await bus._api.require(f"CONSUMER.DELETE.{names.runs}.run_shop", None, dict)
    await fill(bus, names, 2, start=1)
    await bus.ensure_consumer(shop(names))
    # The first one too, if its acknowledgement came after the consumer had gone.
    seen: set[bytes] = set()
    while not seen >= {b"1", b"2"}:
        seen.add((await worker.finish_one(puller)).data)


async def test_a_pull_that_the_broker_forgot_is_noticed_by_its_silence(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    await bus.ensure_consumer(shop(names))
    link = await bus._control.get()
    worker = Worker()
    subject = f"$JS.API.CONSUMER.MSG.NEXT.{names.runs}.run_shop"
    puller = Puller(link, Verbs(bus._inbox, None), subject, worker.take, slots=2, heartbeat_s=0.2)
    # Requests of the first generation go to nobody, as they do when the leader that knew them is gone.
    swallowed = await bus.subscribe("void", lambda _: None)
    puller._subject = "void"
    await puller.open()
    await eventually(lambda: puller._outstanding == 2)
    puller._subject = subject
    await fill(bus, names, 3)
    assert {(await worker.finish_one(puller)).data for _ in range(3)} == {b"0", b"1", b"2"}
    assert worker.most <= 2
    await swallowed.aclose()
    await puller.aclose()


async def test_a_cancel_that_comes_while_a_puller_closes_reaches_who_closes_it(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    await bus.ensure_consumer(shop(names))
    puller = await bus.pull(names.runs, "run_shop", Worker().take, slots=1)
    closing = asyncio.create_task(puller.aclose())
    await asyncio.sleep(0)  # it waits for the end of the task that asks
    closing.cancel()
    await asyncio.wait((closing,))
    assert closing.cancelled()


async def test_closing_a_puller_gives_back_what_was_on_its_way(
    shared_broker: Broker, connect: Connect, names: Subjects, needed: Definitions
) -> None:
    bus = await connect(shared_broker)
    await bus.ensure(needed)
    await bus.ensure_consumer(shop(names, ack_wait_s=60.0))
    worker = Worker()
    puller = await bus.pull(names.runs, "run_shop", worker.take, slots=100)
    filling = asyncio.create_task(fill(bus, names, 300))
    await eventually(lambda: bool(worker.held))
    await puller.aclose()
    await filling
    first = {delivery.data for delivery in worker.held}
    other = Worker()
    second = await bus.pull(names.runs, "run_shop", other.take, slots=100)
    rest = {(await other.finish_one(second)).data for _ in range(300 - len(first))}
    assert first | rest == {str(n).encode() for n in range(300)}
