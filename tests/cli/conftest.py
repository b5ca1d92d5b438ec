from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.cli.commands import Command
from tests.server.processes import eventually, processes_of

APP = """\
import asyncio

import structlog

from mesh import Context, Mesh
from mesh.models import Call, Reply
from mesh.models.scripted import in_turn

app = Mesh("zoo")
print("noise of an import")


@app.agent
async def story(ctx: Context, text: str) -> str:
    await ctx.emit_progress("thinking", 0.5)
    await ctx.emit_text("once upon ")
    await ctx.emit_text("a time")
    return "a time"


@app.agent
async def facts(ctx: Context, text: str) -> dict[str, str]:
    print("noise of a handler")
    await ctx.emit_text("so: ")
    return {"about": text}


@app.tool(idempotent=True)
def price(sku: str) -> float:
    return 1.5 * len(sku)


errs = in_turn(
    Reply(text="Let me see. ", calls=(Call("nothing"), Call("price", {"sku": 3}))),
    Reply(text="about ten"),
    Reply(text='{"sku": "otter", "total": 7.5}'),
)
errs = app.scripted_model("errs", errs)
app.model_agent("offers", model=errs, tools=[price], output_type=dict[str, str | float])


@app.agent
async def files(ctx: Context, size: int) -> str:
    await ctx.write_artifact("notes.txt", "old\\n")
    await ctx.write_artifact("notes.txt", "new\\n")
    await ctx.write_artifact("../../escape.bin", bytes(size))
    return "x" * size


@app.agent
async def logs(ctx: Context, text: str) -> None:
    structlog.get_logger().warning("seen")


@app.agent
async def boom(ctx: Context, text: str) -> str:
    raise ValueError("no good")


@app.agent
async def wait(ctx: Context, text: str) -> str:
    await ctx.emit_text("waiting\\n")
    await asyncio.sleep(3600)


@app.agent
async def slow(ctx: Context, rounds: int) -> str:
    for number in range(rounds):
        await ctx.step("nap", asyncio.sleep, 0.2)
        await ctx.emit_text(f"{number}\\n")
    return "done"


@app.agent
async def stubborn(ctx: Context, text: str) -> str:
    await ctx.emit_text("waiting\\n")
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
"""


class Start(Protocol):
    def __call__(
        self, *arguments: str, terminal: bool = False, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> Command: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "zoo.py").write_text(APP)
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    """A prefix of its own, so that a mesh that happens to run on this machine is none to these commands."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MESH_", "NO_COLOR", "PYTHON"))}
    return clean | {"MESH_PREFIX": f"t{secrets.token_hex(4)}", "TERM": "xterm"}


@pytest.fixture
async def start(folder: Path, environment: dict[str, str]) -> AsyncIterator[Start]:
    """Starts `mesh …` in the folder of the test; nothing of it is left at the end."""
    running: list[Command] = []

    def start(
        *arguments: str, terminal: bool = False, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> Command:
        command = Command(*arguments, cwd=folder, env=environment | (env or {}), terminal=terminal, stdin=stdin)
        running.append(command)
        return command

    yield start
    for command in running:
        command.end()
    await eventually(lambda: processes_of(folder) == set())


@pytest.fixture
def dev(start: Start) -> Command:
    """A `mesh dev` that serves the zoo."""
    command = start("dev", "zoo.py:app")
    command.until("Ctrl-C stops")
    return command
