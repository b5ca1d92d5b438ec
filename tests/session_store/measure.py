"""How quick a store is with many tasks: `python -m tests.session_store.measure [TASKS] [DATABASE_URL]`."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from mesh.client import Client
from mesh.log.head import View, next_commit
from mesh.server import EmbeddedServer
from mesh.settings import Settings
from mesh.streams import definitions
from mesh.subjects import Subjects
from mesh.testing import Processes
from schemas import envelope
from schemas.envelope import Event, event
from schemas.ids import new_id
from schemas.instant import rfc3339
from schemas.step import StepCompleted, StepRequested, TextAdded
from schemas.task import TaskAccepted, TaskCompleted, TaskStarted

ROUNDS = 300
AT_ONCE = 500


class By:
    """A writer; who it is does not matter here."""

    by = "executor/measure"

    def stamp(self) -> tuple[str, str]:
        return "0123456789abcdef", rfc3339(time.time())


def events(n: int) -> list[tuple[Event, ...]]:
    accepted = TaskAccepted(
        agent=f"agent{n % 20}", pool="p", digest="d" * 32, sequence=n + 1, at=rfc3339(time.time()),
        input={"topic": "otters " * 10}, context_id=f"talk {n % 5000}", owner=f"acme/user{n % 100}",
    )  # fmt: skip
    step = (
        event(StepRequested(step="s", kind="code", name="s")), event(StepCompleted(step="s", output={"n": n})),
    )  # fmt: skip
    return [
        (event(accepted),), (event(TaskStarted(wake=0, cover=1, owner="e", attempt=1)),), step,
        (event(TextAdded(text="about otters " * 10, offset=0, attempt=1)),), (event(TaskCompleted(output="x" * 200)),),
    ]  # fmt: skip


async def write(client: Client, names: Subjects, ids: list[str]) -> None:
    bus = client._session.bus

    async def one(n: int, id: str) -> None:
        view = View(id)
        for some in events(n):
            commit = next_commit(view, By(), some)
            seq = await bus.publish(names.task(id), envelope.encode(commit))
            view = View(id, seq, commit.n, view.first or seq, commit.head, commit.v)

    for start in range(0, len(ids), AT_ONCE):
        async with asyncio.TaskGroup() as group:
            for n in range(start, min(start + AT_ONCE, len(ids))):
                group.create_task(one(n, ids[n]))


async def timed(name: str, ask: Callable[[int], Awaitable[object]]) -> None:
    taken = []
    for n in range(ROUNDS):
        begun = time.perf_counter()
        await ask(n)
        taken.append((time.perf_counter() - begun) * 1000)
    taken.sort()
    print(f"  {name:44} p50 {taken[len(taken) // 2]:7.2f} ms   p99 {taken[int(len(taken) * 0.99)]:7.2f} ms")


def rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def main(count: int, url: str) -> None:
    names = Subjects()
    with tempfile.TemporaryDirectory(prefix="mesh-measure-") as folder:
        server = EmbeddedServer(Path(folder) / "store")
        await server.start()
        os.environ["MESH_DATABASE"] = url or f"sqlite:///{folder}/sessions.db"
        from mesh.bus import Bus

        bus = await Bus.connect(server.url, name="measure")
        await bus.ensure(definitions(names))
        async with Client.connect(server.url) as client, Processes(server.url, settings=Settings()) as processes:
            await measure(client, names, processes, count)
        await bus.aclose()
        await server.stop()


async def measure(client: Client, names: Subjects, processes: Processes, count: int) -> None:
    ids = [new_id(int(time.time() * 1000)) for _ in range(count)]
    begun = time.perf_counter()
    await write(client, names, ids)
    print(f"{count} tasks, {count * 5} commits written in {time.perf_counter() - begun:.1f} s")
    begun = time.perf_counter()
    store = await processes.start("session-store", ready=False)
    await store.ready(600)
    took = time.perf_counter() - begun
    print(f"view built in {took:.1f} s, {count * 5 / took:.0f} commits/s; the store has {rss_mb(store.pid):.0f} MB")
    deep = None
    for _ in range(50):
        deep = (await client.tasks(limit=100, page_token=deep)).next_page_token
    half = rfc3339(time.time() - 3600)

    async def waits(n: int) -> None:
        id = new_id(int(time.time() * 1000))
        commit = next_commit(View(id), By(), events(n)[0])
        seq = await client._session.bus.publish(names.task(id), envelope.encode(commit))
        await client.get(id, sequence=seq)

    await timed("get by id", lambda n: client.get(ids[n * 7919 % count]))
    await timed("get by submit", lambda n: client.get(n * 7919 % count + 1))
    await timed("tasks, first page of 50", lambda n: client.tasks())
    await timed("tasks, page 51 of 100 each", lambda n: client.tasks(limit=100, page_token=deep))
    await timed("tasks of an agent and a state", lambda n: client.tasks(agent=f"agent{n % 20}", state="completed"))
    await timed("tasks of an owner", lambda n: client.tasks(owner=f"acme/user{n % 100}"))
    await timed("tasks of an agent and an owner", lambda n: client.tasks(agent="agent3", owner="acme/user23"))
    await timed("tasks of a context", lambda n: client.tasks(context_id=f"talk {n}"))
    await timed("failed tasks (none)", lambda n: client.tasks(state="failed"))
    await timed("tasks since an hour ago", lambda n: client.tasks(since=half))
    await timed("tasks since now (none)", lambda n: client.tasks(since=time.time()))
    await timed("history of a context", lambda n: client.history(f"talk {n}"))
    await timed("get of a commit made just now", waits)
    print(f"the store has {rss_mb(store.pid):.0f} MB")
    begun = time.perf_counter()
    async for answer in client._session.store.rebuild(600):
        print(f"  rebuild: {answer.state}", end="")
    print(f" after {time.perf_counter() - begun:.1f} s; the store has {rss_mb(store.pid):.0f} MB")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, sys.argv[2] if len(sys.argv) > 2 else ""))
