from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from mesh.cli.app import app
from tests.cli.conftest import Start

COMMANDS = (
    "run",
    "dev",
    "submit",
    "tail",
    "show",
    "cancel",
    "archive",
    "restore",
    "doctor",
    "init",
    "service",
    "bench",
)
LOADED = """
import sys
from mesh.cli import main
sys.argv = ["mesh", "--help"]
try:
    main()
except SystemExit:
    pass
heavy = {"nats", "services", "asyncio", "rich", "structlog", "uvloop"} & set(sys.modules)
print("loaded:", sorted(heavy))
"""

INTERRUPTED = """
import os, signal, sys
from mesh.cli import main
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "mesh.cli.app":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
main()
"""


def test_help_loads_neither_the_client_nor_the_services_nor_anything_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("loaded: []")


def test_ctrl_c_while_modules_are_imported_leaves_without_a_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_help_names_every_command_and_the_exit_codes(start: Start) -> None:
    command = start("--help")
    assert command.code() == 0
    assert [name for name in COMMANDS if f"\n  {name} " not in command.out] == []
    assert "130 left" in command.out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_has_examples(start: Start, name: str) -> None:
    command = start(name, "--help")
    assert command.code() == 0
    assert f"Examples:\n    mesh {name}" in command.out


def test_every_help_fits_80_columns_and_cuts_no_summary_short() -> None:
    pages = list(help_pages(get_command(app), "mesh"))
    assert len(pages) > 30
    lines = [line for page in pages for line in page.splitlines() if not line.startswith("Usage: ")]
    assert [line for line in lines if len(line) > 80 or line.endswith("...")] == []


def help_pages(command: Any, name: str) -> Iterator[str]:
    """What `--help` prints on a narrow terminal, of a command and of all below it."""
    yield command.get_help(command.context_class(command, info_name=name, terminal_width=80))
    for below, one in getattr(command, "commands", {}).items():
        yield from help_pages(one, f"{name} {below}")


def test_the_version_is_that_of_the_distribution(start: Start) -> None:
    command = start("--version")
    assert command.code() == 0
    assert command.out == "nats-agent-mesh 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("fly",), "No such command 'fly'"),
        (("run", "hello"), "Missing argument 'INPUT'"),
        (("tail", "a b"), "'a b' is no task id"),
        (("submit", "hello", "x", "--metadata", "[1]"), "--metadata is no JSON object"),
        (("agent", "ls", "--server", "http://x"), "--server: 'http://x' is no address of a server"),
        (("service", "rooter"), "there is no service 'rooter'"),
        (("service", "executor"), "an executor needs an app"),
        (("dead", "ls", "--kind", "foo"), "'foo' is no kind of dead letter\nhint: kinds are invalid_subject, "),
        (("dev", "--port", "0"), "Invalid value for '--port'"),
        (("dev", "--port", "99999"), "Invalid value for '--port'"),
        (("run", "hello", "-"), "the input is not UTF-8"),
    ],
)
def test_what_is_typed_wrong_is_said_in_a_line_and_leaves_with_2(
    start: Start, arguments: tuple[str, ...], complaint: str
) -> None:
    command = start(*arguments, stdin=b"\xff")
    assert command.code() == 2
    assert complaint in command.err
    assert "Traceback" not in command.err


def test_python_runs_the_package_as_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "mesh", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "nats-agent-mesh 0.1.0\n"


def test_a_setting_that_is_no_number_is_named(start: Start) -> None:
    command = start("agent", "ls", env={"MESH_SLOTS": "many"})
    assert command.code() == 2
    assert "MESH_SLOTS='many'" in command.err
