from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from mesh import Context, Mesh
from mesh.cli.served import Served
from mesh.server import read_server_json
from tests.cli.commands import Command
from tests.cli.conftest import Start


def submitted(start: Start, *arguments: str) -> str:
    command = start("submit", *arguments)
    assert command.code() == 0, command.err
    return command.out.strip()


def test_the_banner_names_url_app_and_agents_and_a_command_to_try(dev: Command, folder: Path) -> None:
    record = read_server_json(folder / ".mesh")
    assert record is not None
    assert f"mesh is ready at {record.url}" in dev.err
    for words in (
        "app    zoo ",
        "agents boom, facts, files, logs, offers, slow, story, stubborn, wait",
        "try    mesh run story",
    ):
        assert words in dev.err


def test_the_command_to_try_is_one_for_an_agent_that_takes_text() -> None:
    shop = Mesh("shop")

    @shop.agent
    async def count(ctx: Context, number: int) -> int:
        return number

    assert Served(shop, "1", "app.py").example == "count INPUT"

    @shop.agent
    async def greet(ctx: Context, name: str) -> str:
        return name

    assert Served(shop, "1", "app.py").example == 'greet "otters"'


def test_other_commands_find_it(dev: Command, start: Start) -> None:
    run = start("run", "story", "x")
    assert (run.code(), run.out) == (0, "once upon a time\n")
    agents = start("agent", "ls", "--json")
    assert agents.code() == 0
    assert {json.loads(line)["agent"]["name"] for line in agents.out.splitlines()} >= {"story", "wait"}
    doctor = start("doctor")
    assert doctor.code() == 0, doctor.out


def test_a_second_one_in_the_same_folder_names_the_first(dev: Command, start: Start) -> None:
    second = start("dev", "zoo.py")
    assert second.code() == 5
    assert f"is in use by process {dev.pid}" in second.err


def test_a_taken_port_is_announced_and_another_one_is_used(start: Start) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 4222))
            taken.listen()
        except OSError:
            pass  # somebody else has it, which is as good
        dev = start("dev", "zoo.py")
        dev.until("port 4222 is taken by another program, so this mesh listens on nats://127.0.0.1:")
        dev.until("Ctrl-C stops")
        run = start("run", "story", "x")
        assert run.code() == 0
    named = start("dev", "zoo.py", "--store", "other", "--port", str(_port(dev)))
    assert named.code() == 5
    assert "is taken" in named.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_tasks_end(dev: Command, start: Start, number: signal.Signals) -> None:
    task = submitted(start, "slow", "20")
    tail = start("tail", task)
    tail.until("1\n")
    dev.signal(number)
    dev.until(f"still at work on task {task}")
    assert dev.code() == 0
    shown = start("show", task)
    assert shown.code() == 0
    assert f"task {task}  completed" in shown.out


def test_the_second_signal_hands_tasks_back_and_the_next_start_goes_on(dev: Command, start: Start) -> None:
    task = submitted(start, "slow", "20")
    tail = start("tail", task)
    tail.until("1\n")
    dev.signal()
    dev.until("still at work")
    dev.signal()
    dev.until(f"handed back task {task}")
    assert dev.code() == 0
    shown = start("show", task)
    assert shown.code() == 0
    assert "task.released" in shown.out
    waiting = start("tail", task)
    assert waiting.code() == 5
    assert "has not ended" in waiting.err
    again = start("dev", "zoo.py")
    again.until("Ctrl-C stops")
    assert start("tail", task).code() == 0


def test_tasks_that_outlast_the_drain_are_handed_back(start: Start) -> None:
    dev = start("dev", "zoo.py", "--drain-s", "0.2")
    dev.until("Ctrl-C stops")
    start("tail", submitted(start, "wait", "x")).until("waiting")
    dev.signal()
    dev.until("handed back")
    assert dev.code() == 0


def test_a_broker_that_is_killed_is_started_again(dev: Command, start: Start, folder: Path) -> None:
    record = read_server_json(folder / ".mesh")
    assert record is not None
    task = submitted(start, "slow", "10")
    tail = start("tail", task)
    tail.until("1\n")
    os.kill(record.pid, signal.SIGKILL)
    dev.until("ended by itself .signal 9")
    dev.until(f"runs again at {record.url}")
    assert tail.code() == 0
    assert tail.out.endswith("9\ndone\n")


def test_killing_it_leaves_no_process_and_the_next_start_goes_on(start: Start, folder: Path) -> None:
    quick = {"MESH_ACK_WAIT_S": "0.6"}
    dev = start("dev", "zoo.py", env=quick)
    dev.until("Ctrl-C stops")
    task = submitted(start, "slow", "10")
    tail = start("tail", task)
    tail.until("1\n")
    dev.signal(signal.SIGKILL)
    dev.code()
    again = start("dev", "zoo.py", env=quick)
    again.until("Ctrl-C stops")
    followed = start("tail", task)
    assert followed.code() == 0
    assert followed.out.endswith("9\ndone\n")


def _port(dev: Command) -> int:
    return int(dev.until(r"mesh is ready at nats://127.0.0.1:(\d+)")[1])
