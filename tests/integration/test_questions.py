"""Who is asked whether a worker still works: what counts as an answer, and what a broker's permissions change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from mesh import Context, Mesh
from mesh.bus import Bus, LiveMessage
from mesh.errors import NobodyAnswers, UnknownTask
from mesh.log.driver import Driver
from mesh.log.ops import Holds
from mesh.server import EmbeddedServer
from mesh.service import ServiceConfig, find_service
from mesh.settings import Settings
from mesh.subjects import Subjects
from mesh.testing import LocalMesh, assert_invariants, eventually
from mesh.testing.local_mesh import Serving
from schemas.task import TaskStarted
from schemas.worker import WorkerAnswer
from tests.bus.broker import Broker

NAMES = Subjects("asked")
PATIENCE_S = 0.2
OURS = Holds("executor-1-ab", 7, 1)
USERS = """
authorization { users: [
  { user: all, password: secret }
  { user: mute, password: secret, permissions { publish { deny: ["*.worker.*"] } } }
  { user: deaf, password: secret, permissions { subscribe { deny: ["*.worker.*"] } } }
] }
"""


class Users:
    """A broker that knows what each user may do; a mesh on it is that of `all`."""

    system_url = ""

    def __init__(self, broker: Broker) -> None:
        self.url = self.of("all", broker)
        self._broker = broker

    def of(self, user: str, broker: Broker | None = None) -> str:
        return f"nats://{user}:secret@127.0.0.1:{(broker or self._broker).port}"


@pytest.fixture
def users(tmp_path: Path) -> Iterator[Users]:
    broker = Broker(tmp_path, USERS)
    broker.start()
    yield Users(broker)
    broker.kill()


class Late(Bus):
    """Does something when it has been told for the first time that nobody answers."""

    refused = 0
    then: Callable[[], Awaitable[object]] | None = None

    async def request(
        self, subject: str, data: bytes, *, timeout_s: float, accept: Callable[[bytes], bool] = lambda body: True
    ) -> LiveMessage:
        try:
            return await super().request(subject, data, timeout_s=timeout_s, accept=accept)
        except NobodyAnswers:
            self.refused += 1
            if self.then and self.refused == 1:
                await self.then()
            raise


@pytest.fixture
async def bus(mesh_server: EmbeddedServer) -> AsyncIterator[Late]:
    bus = await Late.connect(mesh_server.url, name="router-1-ab")
    assert isinstance(bus, Late)
    async with LocalMesh(server=mesh_server, settings=Settings(prefix=NAMES.prefix), routers=0):
        yield bus
    await bus.aclose()


@asynccontextmanager
async def answering(bus: Bus, *bodies: bytes) -> AsyncIterator[None]:
    """Somebody answers with these, in this order, whatever the worker is asked."""
    asked: asyncio.Queue[LiveMessage] = asyncio.Queue()

    async def answer() -> None:
        while True:
            message = await asked.get()
            for body in bodies:
                await bus.answer(message, body)

    async with aclosing(await bus.take_requests(NAMES.worker(OURS.worker), asked.put_nowait)):
        answers = asyncio.create_task(answer())
        yield
        answers.cancel()


def says(holds: bool, worker: str = OURS.worker) -> bytes:
    return msgspec.json.encode(WorkerAnswer(worker=worker, holds=holds))


OTHER = "executor-2-cd"


async def holds(bus: Bus) -> bool:
    held: bool = await Driver(bus, NAMES, patience_s=PATIENCE_S).answer(OURS)
    return held


@pytest.mark.parametrize(
    ("bodies", "counts"),
    [
        ([says(True)], True),
        ([says(False)], False),
        ([says(True, OTHER)], False),
        ([says(False, OTHER), says(True)], True),
        ([b"\xff"], False),
        ([b""], False),
        ([b'{"worker": 7}'], False),
        ([b'{"worker": ' + b"[" * 100_000], False),
        ([b"\xff", says(True)], True),
    ],
    ids=["yes", "no", "another's", "another's, then its own", "no text", "none", "another type", "deep", "both"],
)
async def test_only_an_answer_of_the_worker_that_was_asked_counts(bus: Late, bodies: list[bytes], counts: bool) -> None:
    async with answering(bus, *bodies):
        assert await holds(bus) is counts


async def test_a_worker_that_is_just_coming_back_is_asked_again(bus: Late) -> None:
    async with AsyncExitStack() as stack:
        bus.then = lambda: stack.enter_async_context(answering(bus, says(True)))
        assert await holds(bus)
    assert bus.refused == 1


async def test_a_worker_that_is_gone_is_asked_twice_and_no_more(bus: Late) -> None:
    assert not await holds(bus)
    assert bus.refused == 2


async def test_who_may_not_ask_goes_on_unanswered_and_says_once_what_is_missing(users: Users) -> None:
    mesh = LocalMesh(server=users, settings=Settings(prefix=NAMES.prefix), routers=0)
    async with mesh, aclosing(await Bus.connect(users.of("mute"), name="executor-2-cd")) as mute:
        driver = Driver(mute, NAMES, patience_s=PATIENCE_S)
        with capture_logs() as logs:
            assert not await driver.answer(OURS)
            assert not await driver.answer(OURS)
    [warning] = [entry for entry in logs if entry["log_level"] == "warning"]
    assert "publish to asked.worker.*" in warning["hint"]


@pytest.fixture
async def held(users: Users) -> AsyncIterator[tuple[LocalMesh, Mesh, asyncio.Event]]:
    """A mesh whose executors hold their tasks until the event is set."""
    app, gate = Mesh("held"), asyncio.Event()

    @app.agent
    async def holds(ctx: Context) -> str:
        await gate.wait()
        return "held"

    async with LocalMesh(server=users, settings=Settings(prefix=NAMES.prefix, ack_wait_s=0.5)) as mesh:
        yield mesh, app, gate


async def executor(mesh: LocalMesh, app: Mesh, url: str) -> Serving:
    serving = Serving(find_service("executor")(ServiceConfig(url=url, settings=mesh.settings, app=app)))
    await serving.start()
    return serving


async def claims(mesh: LocalMesh, task: str) -> list[str]:
    entries = await mesh.log(task)
    data = [event.data for entry in entries for event in entry.commit.events]
    return [one.owner for one in data if isinstance(one, TaskStarted)]


async def test_who_may_not_ask_takes_over_from_a_worker_that_died(
    held: tuple[LocalMesh, Mesh, asyncio.Event], users: Users
) -> None:
    mesh, app, gate = held
    first = await executor(mesh, app, users.url)
    task = await mesh.client.submit("holds", None)

    async def has_claimed(count: int) -> bool:
        return len(await claims(mesh, task.id)) == count

    await eventually(lambda: has_claimed(1), forgive=UnknownTask)
    second = await executor(mesh, app, users.of("mute"))
    await first.cut_off()
    await eventually(lambda: has_claimed(2))
    gate.set()
    assert (await task.result(10)).output == "held"
    assert_invariants(await mesh.log(task.id))
    await second.stop()


async def test_a_worker_that_may_not_be_asked_says_so_and_serves(
    held: tuple[LocalMesh, Mesh, asyncio.Event], users: Users
) -> None:
    mesh, app, gate = held
    with capture_logs() as logs:
        deaf = await executor(mesh, app, users.of("deaf"))
    [warning] = [entry for entry in logs if "cannot be asked" in entry["event"]]
    assert f"asked.worker.{deaf.service.name}" in warning["hint"]
    gate.set()
    assert (await mesh.run("holds", None, timeout_s=10)).output == "held"
    await deaf.stop()
