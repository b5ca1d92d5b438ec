from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mesh.server import EmbeddedServer
from tests.cli.commands import Command
from tests.cli.conftest import Start
from tests.server.processes import eventually


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with EmbeddedServer(tmp_path / "elsewhere") as broker:
        yield broker.url


def listed(start: Start, url: str, *arguments: str) -> list[dict[str, Any]]:
    ls = start("worker", "ls", "--json", "--server", url, *arguments)
    assert ls.code() == 0
    return [json.loads(line) for line in ls.out.splitlines()]


def holder(start: Start, url: str, task: str) -> str:
    """The worker that holds a task, or nothing."""
    executors = listed(start, url, "--service", "executor")
    held: dict[str, str] = {one["task"]: worker["worker"] for worker in executors for one in worker["tasks"]}
    return held.get(task, "")


async def test_a_worker_is_drained_and_its_tasks_finish_elsewhere(start: Start, url: str) -> None:
    start("service", "router", "--server", url).until('"event": "serving"')
    executors = [start("service", "executor", "--app", "zoo.py", "--server", url) for _ in range(2)]
    for executor in executors:
        executor.until('"event": "serving"')
    assert start("submit", "slow", "25", "--id", "s", "--server", url).code() == 0
    await eventually(lambda: bool(holder(start, url, "s")))
    name = holder(start, url, "s")
    pid = int(name.split("-")[1])
    drain = start("worker", "drain", name, "--within", "0", "--wait", "--server", url)
    assert (drain.code(), drain.out) == (0, f"{name} has left\n")
    (gone,) = [executor for executor in executors if executor.pid == pid]
    assert gone.code() == 0
    tail = start("tail", "s", "--server", url)
    assert tail.code() == 0
    assert tail.out == "".join(f"{number}\n" for number in range(25)) + "done\n"
    again = start("worker", "drain", name, "--server", url)
    assert again.code() == 2
    assert f"no worker '{name}' is there" in again.err
    none = start("worker", "ls", "--service", "tool-runner", "--server", url)
    assert (none.code(), none.out) == (0, "")
    assert "no worker of service 'tool-runner' is there; there are: executor, router" in none.err
    (other,) = [worker["worker"] for worker in listed(start, url, "--service", "executor")]
    assert other in again.err


async def test_a_worker_that_drains_is_shown_so_and_may_end_what_it_holds(start: Start, url: str) -> None:
    start("service", "router", "--server", url).until('"event": "serving"')
    executor = start("service", "executor", "--app", "zoo.py", "--server", url)
    executor.until('"event": "serving"')
    assert start("submit", "slow", "60", "--id", "s", "--server", url).code() == 0
    await eventually(lambda: bool(holder(start, url, "s")))
    name = holder(start, url, "s")
    assert start("worker", "drain", name, "--within", "60", "--server", url).code() == 0
    await eventually(lambda: any(worker["draining"] for worker in listed(start, url)))
    ls = start("worker", "ls", "--server", url)
    assert ls.code() == 0
    (line,) = [line for line in ls.out.splitlines() if line.startswith(name)]
    assert "zoo " in line
    assert "1 in flight, draining: s (quiet 0 s)" in line or "draining: s (quiet 1 s)" in line
    assert executor.code() == 0
    tail = start("tail", "s", "--server", url)
    assert tail.code() == 0
    assert tail.out.endswith("59\ndone\n")


def test_agents_are_listed_and_shown_and_forgotten(dev: Command, start: Start) -> None:
    ls = start("agent", "ls")
    assert ls.code() == 0
    assert "story" in ls.out
    show = start("agent", "show", "facts")
    assert show.code() == 0
    assert "agent facts of app zoo" in show.out
    assert '"type":"string"' in show.out
    assert "workers  executor-" in show.out
    plain = start("agent", "show", "facts", "--json")
    assert plain.code() == 0
    assert json.loads(plain.out)["agent"]["input_schema"] == {"type": "string"}
    wrong = start("agent", "show", "fact")
    assert wrong.code() == 2
    assert "did you mean 'facts'?" in wrong.err
    refused = start("agent", "rm", "story")
    assert refused.code() == 2
    assert "app 'zoo' is served by executor-" in refused.err
    forced = start("agent", "rm", "story", "--force")
    assert forced.code() == 0
    assert "once nobody serves it, new ones are rejected" in forced.out
    empty = start("agent", "ls")
    assert (empty.code(), empty.out) == (0, "")


def test_the_commands_have_examples(start: Start) -> None:
    for command in ("worker ls", "worker drain", "agent ls", "agent show", "agent rm"):
        help = start(*command.split(), "--help")
        assert help.code() == 0
        assert f"Examples:\n    mesh {command}" in help.out
