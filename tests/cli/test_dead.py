from __future__ import annotations

import json
from typing import Any

from tests.cli.commands import Command
from tests.cli.conftest import Start
from tests.server.processes import eventually

HOSTILE = "\x1b[31mred\x07"


def bury(start: Start, count: int) -> None:
    """Submits under one id with many bodies; all but the first are dead letters."""
    for number in range(count + 1):
        assert start("submit", "story", f"{HOSTILE} {number}", "--id", "taken").code() == 0


async def listed(start: Start, count: int, *arguments: str) -> list[dict[str, Any]]:
    """The dead letters, once there are as many."""

    def look() -> list[dict[str, Any]]:
        ls = start("dead", "ls", "--json", *arguments)
        assert ls.code() == 0
        return [json.loads(line) for line in ls.out.splitlines()]

    await eventually(lambda: len(look()) == count)
    return look()


async def test_letters_are_listed_shown_and_removed(dev: Command, start: Start) -> None:
    empty = start("dead", "ls")
    assert (empty.code(), empty.out) == (0, "")
    assert "no dead letters" in empty.err
    bury(start, 3)
    letters = await listed(start, 3)
    assert {letter["kind"] for letter in letters} == {"duplicate_id"}
    page = start("dead", "ls", "--limit", "2", "--kind", "duplicate_id")
    assert page.code() == 0
    assert len(page.out.splitlines()) == 2
    assert "there are more than 2: --limit 4 shows more, --limit 0 all" in page.err
    assert len(await listed(start, 3, "--limit", "0")) == 3
    show = start("dead", "show", "1")
    assert show.code() == 0
    assert "a task 'taken' exists already" in show.out
    assert "mesh dead redrive 1" in show.out
    assert HOSTILE not in show.out
    rm = start("dead", "rm", "2")
    assert (rm.code(), rm.out) == (0, "2: removed\n")
    assert start("dead", "rm", "--kind", "duplicate_id").code() == 0
    assert await listed(start, 0) == []


async def test_two_operators_who_redrive_at_once_make_one_task_that_runs_once(dev: Command, start: Start) -> None:
    bury(start, 1)
    await listed(start, 1)
    both = [start("dead", "redrive", "1", "--json") for _ in range(2)]
    codes = [one.code() for one in both]
    assert 0 in codes
    (task,) = {json.loads(one.out)["task"] for one, code in zip(both, codes, strict=True) if code == 0}
    tail = start("tail", task)
    assert (tail.code(), tail.out) == (0, "once upon a time\n")
    show = start("show", task, "--json")
    assert show.code() == 0
    events = [event for line in show.out.splitlines() for event in json.loads(line)["commit"]["events"]]
    assert [event["type"] for event in events].count("task.accepted") == 1
    assert events[0]["data"]["metadata"]["redriven"]["task"] == "taken"
    assert await listed(start, 0) == []


async def test_what_cannot_be_redriven_is_said_and_the_others_are_done(dev: Command, start: Start) -> None:
    bury(start, 1)
    await listed(start, 1)
    command = start("dead", "redrive", "99", "1")
    assert command.code() == 1
    assert "there is no dead letter 99" in command.err
    assert command.out.startswith("1: task ")


async def test_a_redrive_to_nobody_keeps_the_letter(dev: Command, start: Start) -> None:
    bury(start, 1)
    await listed(start, 1)
    command = start("dead", "redrive", "1", "--agent", "stori")
    assert command.code() == 1
    assert "no agent 'stori' is registered, so dead letter 1 stays\nhint: did you mean 'story'?" in command.err
    assert len(await listed(start, 1)) == 1


def test_letters_are_named_by_number_or_by_kind(dev: Command, start: Start) -> None:
    for arguments in (("redrive",), ("rm",), ("redrive", "1", "--kind", "expired")):
        command = start("dead", *arguments)
        assert command.code() == 2
        assert "mesh dead ls" in command.err
    unknown = start("dead", "rm", "--kind", "a.b")
    assert unknown.code() == 2
    assert "'a.b' is no kind of dead letter\nhint: kinds are " in unknown.err


def test_the_commands_have_examples(start: Start) -> None:
    for name in ("ls", "show", "redrive", "rm"):
        command = start("dead", name, "--help")
        assert command.code() == 0
        assert f"Examples:\n    mesh dead {name}" in command.out
