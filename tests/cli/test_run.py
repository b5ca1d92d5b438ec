from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.commands import MESH, Command
from tests.cli.conftest import Start

ESCAPE = "\x1b["


def test_the_demo_agent_answers_where_there_is_no_mesh_and_no_app(start: Start) -> None:
    command = start("run", "hello", "otters")
    assert command.code() == 0
    assert command.out.startswith("Hello! You sent 6 characters")
    assert command.out.count("Hello!") == 1
    assert "built-in demo app (offline: its model is scripted, and needs no key)" in command.err
    assert "10% reading your text" in command.err


def test_the_demo_assistant_calls_its_tools_and_says_that_it_is_scripted(start: Start) -> None:
    command = start("run", "assistant", "how many words are these")
    assert command.code() == 0
    assert "You sent 5 words on 20" in command.out
    assert "I am a scripted model" in command.out
    assert command.out.count("scripted") == 1


def test_models_and_tools_are_told_beside_the_text_and_shown_in_the_log(start: Start) -> None:
    command = start("run", "assistant", "how many days until christmas?")
    assert command.code() == 0
    assert re.search(r"\n\d+ days until Christmas, \d{4}-12-25\. I am a scripted model", command.out)
    for told in (
        r"model scripted:assistant: 5 tokens in, 8 out, 0 USD",
        r"tool  today\(\)\n",
        r'tool  days_between\(first="\d{4}-\d\d-\d\d", last="\d{4}-12-25"\) → \d+\n',
        r"used  3 model requests: 7 tokens in",
    ):
        assert re.search(told, command.err), told
    shown = start("show", command.until(r"task (\w+)")[1])
    assert shown.code() == 0
    for line in (
        r"3 model answers: 7 tokens in",
        r"step.requested  model  asks scripted:assistant with 1 message  prompt sha256-",
        r'step.completed  model  tool_call  5 tokens in, 8 out, 0 USD\n      says "Let me look at the calendar\. "\n',
        r"\n      calls today\(\)\n",
        r"step.requested  model/call_1_1/today  calls today\(\)  idempotent\n",
        r'step.completed  model/call_1_1/today  → "\d{4}-\d\d-\d\d"\n',
    ):
        assert re.search(line, shown.out), line


def test_notes_begin_on_a_line_of_their_own_where_they_share_a_terminal_with_the_text(start: Start) -> None:
    command = start("run", "assistant", "how many days until christmas?", terminal=True, env={"NO_COLOR": "1"})
    assert command.code() == 0
    assert "calendar. \r\nmodel scripted" in command.out
    assert "answer here.\r\nmodel scripted" in command.out


def test_a_demo_model_without_its_key_is_a_clear_failure(start: Start) -> None:
    command = start("run", "assistant", "hi", env={"MESH_MODEL": "openai:gpt-5-mini", "OPENAI_API_KEY": ""})
    assert command.code() == 1
    command.until(r"OPENAI_API_KEY")
    command.until(r"\(model_not_configured\)")


def test_what_was_run_can_be_shown_and_tailed_while_nothing_runs(start: Start) -> None:
    run = start("run", "story", "x", "--app", "zoo.py")
    assert run.code() == 0
    task = run.until(r"task (\w+)")[1]
    shown, tailed, lines = start("show", task), None, None
    assert shown.code() == 0
    assert "task.accepted" in shown.out
    assert f"task {task}  completed" in shown.out
    tailed = start("tail", task)
    assert (tailed.code(), tailed.out) == (0, "once upon a time\n")
    lines = start("show", task, "--json")
    assert lines.code() == 0
    commits = [json.loads(line) for line in lines.out.splitlines()]
    assert [one["commit"]["n"] for one in commits] == list(range(len(commits)))
    assert commits[-1]["commit"]["head"]["phase"] == "ended"


def test_the_output_is_printed_unless_the_text_ended_with_it(start: Start) -> None:
    story = start("run", "story", "x", "--app", "zoo.py:app")
    assert (story.code(), story.out) == (0, "once upon a time\n")
    facts = start("run", "facts", "otters", "--app", "zoo:app", terminal=True, env={"NO_COLOR": "1"})
    assert facts.code() == 0
    assert facts.out.replace("\r", "").endswith('so: \n{\n  "about": "otters"\n}\n')


def test_a_program_that_reads_an_output_that_is_data_gets_nothing_else(start: Start) -> None:
    facts = start("run", "facts", "otters", "--app", "zoo:app")
    assert (facts.code(), json.loads(facts.out)) == (0, {"about": "otters"})
    tail = start("tail", facts.until(r"task (\w+)")[1])
    assert (tail.code(), json.loads(tail.out)) == (0, {"about": "otters"})


def test_an_answer_that_was_refused_is_told_and_not_piped(start: Start) -> None:
    offer = start("run", "offers", "otters", "--app", "zoo.py")
    assert (offer.code(), json.loads(offer.out)) == (0, {"sku": "otter", "total": 7.5})
    wrong = r"told: The answer does not fit: JSON is malformed"
    missing = r"told of nothing: There is no tool 'nothing'; the tools are: price\."
    unfit = r"told of price: The arguments do not fit: .*`\$\.sku`"
    shown = start("show", offer.until(r"task (\w+)")[1])
    assert shown.code() == 0
    for told in (wrong, missing, unfit):
        assert re.search(told, offer.err), told
        assert re.search(told, shown.out), told


def test_what_an_app_prints_goes_to_stderr(start: Start) -> None:
    command = start("run", "facts", "x", "--app", "zoo.py")
    assert command.code() == 0
    assert "noise" not in command.out
    assert "noise of an import" in command.err
    assert "noise of a handler" in command.err


def test_what_an_agent_logs_names_its_task(start: Start) -> None:
    command = start("run", "logs", "x", "--app", "zoo.py")
    assert (command.code(), command.out) == (0, "")
    line = json.loads(next(line for line in command.err.splitlines() if '"seen"' in line))
    task = command.until(r"task (\w+)")[1]
    assert (line["task"], line["context"], line["agent"], line["attempt"]) == (task, task, "logs", 1)


def test_input_comes_from_stdin_for_a_dash(start: Start) -> None:
    command = start("run", "facts", "-", "--app", "zoo.py", stdin="grüße\n\n".encode())
    assert command.code() == 0
    assert json.loads(command.out) == {"about": "grüße\n"}, "one newline ends the text, another one belongs to it"


def test_json_lines_hold_every_event_and_the_result_last(start: Start) -> None:
    command = start("run", "story", "x", "--app", "zoo.py", "--json")
    assert command.code() == 0
    events = [json.loads(line) for line in command.out.splitlines()]
    assert all(set(event) == {"cursor", "type", "at", "data"} for event in events)
    assert events[0]["type"] == "task.accepted"
    assert [event["type"] for event in events[-2:]] == ["task.completed", "result"]
    assert "".join(event["data"]["text"] for event in events if event["type"] == "text") == "once upon a time"
    assert events[-1]["data"]["state"] == "completed"


@pytest.mark.parametrize(
    ("agent", "given", "says"),
    [
        (
            "boom",
            "x",
            r"failed: ValueError: no good \(handler_error\)\n  at .*zoo.py:\d+ in boom\nhint: mesh show",
        ),
        ("slow", "many", r"error: failed: the input does not fit: .*\nhint: this agent takes int"),
    ],
)
def test_a_failed_task_leaves_with_1_and_says_why(start: Start, agent: str, given: str, says: str) -> None:
    command = start("run", agent, given, "--app", "zoo.py")
    assert command.code() == 1
    command.until(says)


def test_an_agent_that_the_app_has_not_is_refused_although_the_store_remembers_it(start: Start) -> None:
    assert start("run", "story", "x", "--app", "zoo.py").code() == 0
    command = start("run", "story", "x")
    assert command.code() == 2
    assert "app 'demo' has no agent 'story'" in command.err
    assert "--app app.py:app" in command.err
    near = start("run", "stori", "x", "--app", "zoo.py")
    assert near.code() == 2
    assert "did you mean 'story'" in near.err


async def test_an_agent_that_a_running_mesh_has_not_is_rejected_with_near_names(start: Start) -> None:
    dev = start("dev", "zoo.py", env={"MESH_UNKNOWN_AGENT_GRACE_S": "0.1"})
    dev.until("Ctrl-C stops")
    command = start("run", "stori", "x")
    assert command.code() == 1
    command.until(r"error: rejected: no agent is named 'stori' \(unknown_agent\)\nhint: did you mean 'story'\?")


def test_an_app_without_agents_says_so(start: Start, folder: Path) -> None:
    (folder / "empty.py").write_text('from mesh import Mesh\n\napp = Mesh("shop")\n')
    for arguments in (("run", "x", "y", "--app", "empty.py"), ("dev", "empty.py")):
        command = start(*arguments)
        assert command.code() == 2
        assert "app 'shop' has no agents\nhint: decorate one with @app.agent" in command.err


@pytest.mark.parametrize("arguments", [("run", "story", "x", "--app", "zoo.py"), ("doctor", "--json")])
def test_a_reader_that_has_gone_ends_a_command_quietly(
    dev: Command, folder: Path, environment: dict[str, str], arguments: tuple[str, ...]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [MESH, *arguments], cwd=folder, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
    assert "ignored" not in done.stderr


def test_the_first_ctrl_c_cancels_the_task(start: Start) -> None:
    command = start("run", "wait", "x", "--app", "zoo.py")
    command.until("waiting")
    command.signal()
    assert command.code() == 3
    assert "canceled: Ctrl-C" in command.err


def test_the_second_ctrl_c_leaves_although_the_handler_does_not_listen(start: Start) -> None:
    command = start("run", "stubborn", "x", "--app", "zoo.py")
    command.until("waiting")
    command.signal()
    command.until("canceling")
    command.signal(signal.SIGTERM)
    assert command.code() == 130
    command.until("left; the task goes on")


def test_sigterm_ends_a_run_although_the_handler_does_not_listen(start: Start) -> None:
    command = start("run", "stubborn", "x", "--app", "zoo.py")
    command.until("waiting")
    command.signal(signal.SIGTERM)
    assert command.code() in (3, 130)


def test_colour_is_for_terminals_only(start: Start) -> None:
    plain = start("run", "boom", "x", "--app", "zoo.py")
    assert plain.code() == 1
    assert ESCAPE not in plain.out + plain.err
    coloured = start("run", "boom", "x", "--app", "zoo.py", terminal=True)
    assert coloured.code() == 1
    assert ESCAPE in coloured.out
    refused = start("run", "boom", "x", "--app", "zoo.py", terminal=True, env={"NO_COLOR": "1"})
    assert refused.code() == 1
    assert ESCAPE not in refused.out


def test_a_run_takes_over_when_the_command_ends_whose_mesh_it_used(start: Start) -> None:
    first = start("run", "wait", "x", "--app", "zoo.py")
    first.until("waiting")
    second = start("run", "slow", "12", "--app", "zoo.py")
    second.until("2\n")
    first.signal()
    assert first.code() == 3
    assert second.code() == 0
    assert second.out.endswith("11\ndone\n")


@pytest.mark.parametrize(
    ("app", "complaint"),
    [
        ("zoo.py:ap", "has no attribute 'ap'"),
        ("zo.py", "there is no file zo.py"),
        ("broken.py", "raises while it is imported: ZeroDivisionError"),
    ],
)
def test_an_app_that_does_not_import_says_what_to_do(start: Start, folder: Path, app: str, complaint: str) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    for arguments in (("run", "x", "y", "--app", app), ("dev", app)):
        command = start(*arguments)
        assert command.code() == 2
        assert complaint in command.err
        assert "Traceback" not in command.err
    assert not (folder / ".mesh").exists()


def test_a_folder_that_hides_our_packages_is_named(start: Start, folder: Path) -> None:
    (folder / "services").mkdir()
    (folder / "services" / "shop.py").touch()
    command = start("run", "story", "x", "--app", "zoo.py")
    assert command.code() == 2
    assert "rename it" in command.err


def test_a_store_that_cannot_be_written_says_so_and_names_the_option(start: Start) -> None:
    command = start("run", "hello", "x", "--store", "zoo.py/store")
    assert command.code() == 5
    assert "cannot be used as a store" in command.err
    assert "--store" in command.err
