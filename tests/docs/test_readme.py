"""What the README shows runs as it stands there, but for the address of the mesh."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mesh.server import read_server_json
from tests.cli.commands import Command
from tests.server.processes import eventually, processes_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:4222"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("MESH_", "OPENAI_", "PYTHON"))}


def block(text: str, language: str, holds: str) -> str:
    """The one code block of a page that holds these words."""
    (found,) = [code for code in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if holds in code]
    assert isinstance(found, str)
    return found


class Terminal:
    """Commands in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands: list[Command] = []

    def mesh(self, *arguments: str, **variables: str) -> Command:
        command = Command(*arguments, cwd=self.folder, env=ENVIRONMENT | variables)
        self.commands.append(command)
        return command

    def script(self, code: str, *interpreter: str) -> str:
        """What a script prints that finds the mesh of this folder where the README says it is."""
        record = read_server_json(self.folder / ".mesh")
        assert record is not None
        host, port = str(urlsplit(record.url).hostname), str(urlsplit(record.url).port)
        code = code.replace(ADDRESS, f"{host}:{port}").replace(ADDRESS.replace(":", "/"), f"{host}/{port}")
        done = subprocess.run(
            [*interpreter, code], cwd=self.folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    for command in terminal.commands:
        command.end()
    await eventually(lambda: processes_of(tmp_path) == set())


def test_the_first_line_runs_the_demo(terminal: Terminal) -> None:
    line = block(README, "sh", "pip install -q . &&")
    arguments = re.search(r"bin/mesh (run \w+) \"([^\"]+)\"", line)
    assert arguments is not None
    run = terminal.mesh(*arguments[1].split(), arguments[2])
    assert run.code() == 0
    assert "days until Christmas" in run.out
    assert "I am a scripted model" in run.out


def test_the_app_of_the_readme_runs(terminal: Terminal) -> None:
    (terminal.folder / "app.py").write_text(block(README, "python", 'Mesh("shop")'))
    report = terminal.mesh("run", "report", "otters", "--app", "app.py:app")
    assert report.code() == 0
    assert report.out == "found 2 facts. \notters exist; there are books on otters; one costs 9.0 EUR\n"
    clerk = terminal.mesh("run", "clerk", "what is an otter?", "--app", "app.py:app")
    assert clerk.code() == 1
    assert "OPENAI_API_KEY is not set (model_not_configured)" in clerk.err


def test_the_app_of_the_quickstart_runs(terminal: Terminal) -> None:
    (terminal.folder / "app.py").write_text(block(QUICKSTART, "python", "app = Mesh"))
    report = terminal.mesh("run", "report", "otters", "--app", "app.py:app")
    assert report.code() == 0
    assert "hold hands" in report.out


def test_tasks_are_published_from_anywhere(terminal: Terminal) -> None:
    terminal.mesh("dev").until("Ctrl-C stops")
    stored = terminal.script(block(README, "python", "import nats"), sys.executable, "-c")
    assert stored.startswith("stored as number ")
    terminal.script(block(README, "bash", "/dev/tcp"), "bash", "-c")
    for task in ("from-nats-py", "from-bash"):
        tail = terminal.mesh("tail", task)
        assert tail.code() == 0
        assert tail.out.startswith("Hello! You sent 6 characters")
    assert "completed Hello!" in terminal.script(block(README, "python", "Client.connect"), sys.executable, "-c")
