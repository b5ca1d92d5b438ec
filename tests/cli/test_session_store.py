from __future__ import annotations

import json
from pathlib import Path

from tests.cli.commands import Command
from tests.cli.conftest import Start


def test_a_view_is_built_anew_by_command(dev: Command, start: Start) -> None:
    assert start("run", "facts", "otters").code() == 0
    rebuild = start("session-store", "rebuild", "--json")
    assert rebuild.code() == 0, rebuild.err
    said = [json.loads(line) for line in rebuild.out.splitlines()]
    assert [one["state"] for one in said] == ["started", "done"]
    assert said[-1]["tasks"] == 1


def test_without_a_store_a_rebuild_says_what_to_start(start: Start) -> None:
    refused = start("session-store", "rebuild")
    assert refused.code() == 5
    assert "mesh" in refused.err


def test_a_log_goes_into_a_file_and_onto_the_broker_and_comes_back(start: Start, folder: Path) -> None:
    run = start("run", "files", "10", "--app", "zoo.py:app", "--json")
    assert run.code() == 0
    said = [json.loads(line) for line in run.out.splitlines()]
    task = next(one["data"] for one in said if one["type"] == "result")["id"]
    packed = start("archive", task, "--to", "f.zip")
    assert packed.code() == 0, packed.err
    assert (folder / "f.zip").is_file()
    assert start("archive", task, "--to", "f.zip").code() == 2
    kept = start("archive", task, "--to", "objects")
    assert kept.code() == 0, kept.err
    for source in ("f.zip", kept.out.strip()):
        restored = start("restore", source)
        assert (restored.code(), restored.out) == (0, f"{task}\n"), restored.err
    assert start("restore", "zoo.py").code() == 2
    assert start("restore", "nothing.zip").code() == 2
