from __future__ import annotations

import json
from pathlib import Path

from tests.cli.commands import Command
from tests.cli.conftest import Start

SIZE = 10_000_000


def test_artifacts_are_listed_and_fetched_also_when_nothing_runs(start: Start, folder: Path) -> None:
    run = start("run", "files", str(SIZE), "--app", "zoo.py:app", "--json")
    assert run.code() == 0
    lines = [json.loads(line) for line in run.out.splitlines()]
    task = next(line["data"] for line in lines if line["type"] == "result")["id"]
    assert len(lines[-1]["data"]["output"]) == SIZE
    ls = start("artifact", "ls", task, "--json")
    assert ls.code() == 0
    listed = [json.loads(line) for line in ls.out.splitlines()]
    assert [one["name"] for one in listed] == ["notes.txt", "notes.txt", "../../escape.bin"]
    old, new, _ = [one["digest"] for one in listed]
    assert old != new
    get = start("artifact", "get", task, "notes.txt")
    assert get.code() == 0
    assert (folder / "notes.txt").read_text() == "new\n"
    to_stdout = start("artifact", "get", task, old, "-o", "-")
    assert (to_stdout.code(), to_stdout.out) == (0, "old\n")


def test_ten_megabytes_go_in_by_stdin_and_come_out_on_stdout(dev: Command, start: Start) -> None:
    text = "lörem " * (SIZE // 7)
    submit = start("submit", "facts", "-", "--id", "f", stdin=text.encode())
    assert (submit.code(), submit.out) == (0, "f\n"), submit.err
    tail = start("tail", "f")
    assert tail.code() == 0
    assert json.loads(tail.out.removeprefix("so: \n")) == {"about": text}


def test_an_artifact_goes_to_the_folder_one_stands_in_and_replaces_nothing(
    dev: Command, start: Start, folder: Path
) -> None:
    assert start("submit", "files", str(SIZE), "--id", "f").code() == 0
    tail = start("tail", "f")
    assert tail.code() == 0
    assert "artifact notes.txt (4 bytes)" in tail.err
    assert tail.out.strip() == "x" * SIZE
    assert start("artifact", "get", "f", "../../escape.bin").code() == 0
    assert (folder / "escape.bin").read_bytes() == bytes(SIZE)
    mine = folder / "mine.txt"
    mine.write_text("mine")
    refused = start("artifact", "get", "f", "notes.txt", "-o", "mine.txt")
    assert refused.code() == 2
    assert "mine.txt is there already" in refused.err
    assert "--force" in refused.err
    assert mine.read_text() == "mine"
    assert start("artifact", "get", "f", "notes.txt", "-o", "mine.txt", "--force").code() == 0
    assert mine.read_text() == "new\n"
    assert not [path for path in folder.iterdir() if path.name.startswith(".mine")]


def test_what_is_missing_is_said_and_leaves_no_file(dev: Command, start: Start, folder: Path) -> None:
    assert start("submit", "files", "1", "--id", "f").code() == 0
    assert start("tail", "f").code() == 0
    before = set(folder.iterdir())
    missing = start("artifact", "get", "f", "nope.txt")
    assert missing.code() == 1
    assert "task 'f' has no artifact 'nope.txt'" in missing.err
    assert "notes.txt" in missing.err
    unknown = start("artifact", "ls", "unknown")
    assert unknown.code() == 1
    assert "no task 'unknown' is known" in unknown.err
    nowhere = start("artifact", "get", "f", "notes.txt", "-o", "no/such/folder/x")
    assert nowhere.code() == 2
    assert "cannot be written" in nowhere.err
    assert set(folder.iterdir()) == before


def test_a_task_without_artifacts_lists_none(dev: Command, start: Start) -> None:
    assert start("submit", "story", "x", "--id", "s").code() == 0
    assert start("tail", "s").code() == 0
    ls = start("artifact", "ls", "s")
    assert (ls.code(), ls.out) == (0, "")
    assert "no artifact" in ls.err


def test_show_prints_where_a_large_output_is(dev: Command, start: Start) -> None:
    assert start("submit", "files", str(SIZE), "--id", "f").code() == 0
    assert start("tail", "f").code() == 0
    show = start("show", "f")
    assert show.code() == 0
    assert '"digest":"sha256-' in show.out
