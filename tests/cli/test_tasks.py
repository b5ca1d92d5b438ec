from __future__ import annotations

import json
import socket

from tests.cli.commands import Command
from tests.cli.conftest import Start


def test_a_task_is_submitted_with_everything_a_caller_may_say(dev: Command, start: Start) -> None:
    said = ("--id", "order-17", "--context", "c 1", "--owner", "acme/ann", "--deadline", "60", "--metadata", '{"a": 1}')
    submit = start("submit", "story", "x", *said)
    assert (submit.code(), submit.out) == (0, "order-17\n")
    assert start("tail", "order-17").code() == 0
    show = start("show", "order-17", "--json")
    assert show.code() == 0
    accepted = json.loads(show.out.splitlines()[0])["commit"]["events"][0]["data"]
    assert accepted["context_id"] == "c 1"
    assert accepted["owner"] == "acme/ann"
    assert accepted["deadline_s"] == 60.0
    assert accepted["metadata"] == {"a": 1}


def test_a_tail_goes_on_from_a_cursor(dev: Command, start: Start) -> None:
    assert start("submit", "slow", "3", "--id", "s").code() == 0
    whole = start("tail", "s", "--json")
    assert whole.code() == 0
    lines = whole.out.splitlines()
    rest = start("tail", "s", "--json", "--from", json.loads(lines[4])["cursor"])
    assert rest.code() == 0
    assert _told(rest.out.splitlines()) == _told(lines[5:])


def test_leaving_a_tail_says_how_to_go_on_and_stops_nothing(dev: Command, start: Start) -> None:
    assert start("submit", "slow", "10", "--id", "s").code() == 0
    tail = start("tail", "s")
    tail.until("1\n")
    tail.signal()
    assert tail.code() == 130
    cursor = tail.until(r"mesh tail s --from (\S+)")[1]
    assert start("tail", "s", "--from", cursor).code() == 0


def test_a_cancel_says_what_became_of_it(dev: Command, start: Start) -> None:
    assert start("submit", "wait", "x", "--id", "w").code() == 0
    tail = start("tail", "w")
    tail.until("waiting")
    cancel = start("cancel", "w", "--reason", "enough")
    assert cancel.code() == 0
    assert "the request is in the log" in cancel.out
    assert tail.code() == 3
    assert "canceled: enough" in tail.err
    again = start("cancel", "w", "--json")
    assert again.code() == 0
    assert json.loads(again.out)["outcome"] == "ended"


def test_an_unknown_task_is_said_to_be_unknown(dev: Command, start: Start) -> None:
    for name in ("show", "tail"):
        command = start(name, "nobody")
        assert command.code() == 1
        assert "no task 'nobody' is known" in command.err


def test_without_a_mesh_a_client_says_what_it_looked_at_and_leaves_with_5(start: Start) -> None:
    for arguments in (("submit", "story", "x"), ("tail", "t"), ("show", "t"), ("cancel", "t")):
        command = start(*arguments)
        assert command.code() == 5
        assert "no mesh is running" in command.err
        assert "start one with `mesh dev`" in command.err


def test_a_server_that_does_not_answer_is_unreachable(start: Start) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"nats://127.0.0.1:{unused.getsockname()[1]}"
    for command in (start("agent", "ls", env={"MESH_SERVER": url}), start("run", "story", "x", "--server", url)):
        assert command.code() == 5
        assert url in command.err


def _told(lines: list[str]) -> list[tuple[str, str]]:
    return [(event["type"], json.dumps(event["data"])) for event in map(json.loads, lines) if event["type"] != "text"]
