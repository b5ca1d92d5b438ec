from __future__ import annotations

import json
from pathlib import Path

import pytest

from mesh.server import EmbeddedServer
from tests.cli.commands import Command
from tests.cli.conftest import Start


def done(command: Command) -> str:
    assert command.code() == 0, command.err
    return command.out


def ids(start: Start, *arguments: str) -> list[str]:
    return [json.loads(line)["id"] for line in done(start("ls", "--json", *arguments)).splitlines()]


def submit(start: Start, agent: str, id: str, *options: str) -> None:
    done(start("submit", agent, "x", "--id", id, *options))


def ended(start: Start, *tasks: str) -> None:
    for task in tasks:
        start("tail", task).code()


def test_tasks_are_listed_by_what_they_are(dev: Command, start: Start) -> None:
    submit(start, "story", "a", "--context", "c")
    submit(start, "boom", "b", "--owner", "acme/ann")
    ended(start, "a", "b")
    submit(start, "wait", "w", "--context", "c")
    start("tail", "w").until("waiting")
    assert ids(start) == ["w", "b", "a"]
    assert ids(start, "--state", "working") == ["w"]
    assert ids(start, "--agent", "story") == ["a"]
    assert ids(start, "--context", "c") == ["w", "a"]
    assert ids(start, "--owner", "acme/ann") == ["b"]
    assert ids(start, "--since", "1h", "--state", "failed") == ["b"]
    assert ids(start, "--since", "2000-01-01T00:00:00Z", "--limit", "0") == ["w", "b", "a"]
    page = start("ls", "--limit", "2")
    lines = done(page).splitlines()
    assert [line.split()[0] for line in lines] == ["w", "b"]
    assert "working (running)" in lines[0]
    assert "handler_error" in lines[1]
    assert "there are more than 2" in page.err
    none = start("ls", "--agent", "nobody")
    assert done(none) == ""
    assert "no such tasks" in none.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--state", "cancelled"), "states are submitted, working"),
        (("--since", "yesterday"), "'yesterday' is no time\nhint: such as 30m, 2h, 7d or "),
        (("--since", "99999999999d"), "no time\nhint: such as 30m, 2h, 7d or "),
    ],
)
def test_a_question_that_cannot_be_asked_is_said(
    dev: Command, start: Start, arguments: tuple[str, str], complaint: str
) -> None:
    command = start("ls", *arguments)
    assert command.code() == 2
    assert complaint in command.err


async def test_without_a_session_store_it_says_what_to_start(start: Start, tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "elsewhere") as broker:
        start("service", "router", "--server", broker.url).until('"event": "serving"')
        for command in (("ls",), ("context", "ls"), ("context", "show", "c"), ("context", "delete", "c")):
            asked = start(*command, "--server", broker.url)
            assert asked.code() == 5
            assert "no session store answers" in asked.err
            assert "mesh service session-store" in asked.err


def test_a_conversation_goes_on_and_is_listed_when_nothing_runs(start: Start, folder: Path) -> None:
    (folder / "chat.py").write_text(CHAT)
    for text, heard in (("one", ""), ("two", "one;one!"), ("three", "one;one!;two;two!")):
        run = start("run", "chat", text, "--context", "c 1", "--app", "chat.py:app")
        assert (run.code(), run.out) == (0, f"{text}!\n")
        assert f"heard [{heard}]" in run.err
    assert len(ids(start, "--context", "c 1")) == 3
    contexts = start("context", "ls", "--json")
    (context,) = [json.loads(line) for line in done(contexts).splitlines()]
    assert (context["context_id"], context["tasks"]) == ("c 1", 3)
    shown = [json.loads(line) for line in done(start("context", "show", "c 1", "--json")).splitlines()]
    assert [one["content"] for one in shown] == ["one", "one!", "two", "two!", "three", "three!"]
    assert "chat" in done(start("context", "show", "c 1", "--limit", "2"))


def test_a_conversation_is_deleted_once_its_tasks_have_ended(dev: Command, start: Start) -> None:
    for task, owner in (("a", "acme/ann"), ("b", "acme/ann"), ("o", "acme/bob")):
        submit(start, "story", task, "--context", "c", "--owner", owner)
    ended(start, "a", "b", "o")
    submit(start, "wait", "w", "--context", "c", "--owner", "acme/ann")
    start("tail", "w").until("waiting")
    whose = start("context", "delete", "c")
    assert whose.code() == 2
    assert "acme/ann, acme/bob" in whose.err
    refused = start("context", "delete", "c", "--owner", "acme/ann")
    assert refused.code() == 2
    assert "have not ended: w" in refused.err
    done(start("cancel", "w"))
    ended(start, "w")
    assert "with the logs of its tasks: 3" in done(start("context", "delete", "c", "--owner", "acme/ann"))
    assert start("show", "a").code() == 1
    assert ids(start, "--context", "c") == ["o"]
    gone = start("context", "delete", "c", "--owner", "acme/ann")
    assert gone.code() == 2
    assert "there is no conversation 'c'" in gone.err


def test_the_commands_have_examples(start: Start) -> None:
    for command in ("ls", "context ls", "context show", "context delete"):
        help = start(*command.split(), "--help")
        assert f"Examples:\n    mesh {command}" in done(help)


CHAT = """\
from mesh import Context, Mesh

app = Mesh("chat")


@app.agent
async def chat(ctx: Context, text: str) -> str:
    heard = ";".join(message.text for message in await ctx.history())
    await ctx.step("note", print, f"heard [{heard}]")
    return f"{text}!"
"""
