"""Who talks to the broker only, or runs a script, pays nothing for providers."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHECK = """
import asyncio, sys
{code}
loaded = {{name.partition('.')[0] for name in sys.modules}}
heavy = loaded & {{"pydantic_ai", "openai", "httpx2", "genai_prices"}}
sys.exit(f"imported: {{heavy}}" if heavy else 0)
"""

COMMAND = """
import mesh.cli
sys.argv = ["mesh", {arguments}]
try:
    mesh.cli.main()
except SystemExit:
    pass
assert not any(name.startswith("mesh.models") for name in sys.modules), "a command that asks no model loads none"
"""

SCRIPTED = """
from contextlib import aclosing
from mesh.models import *
async def main():
    models = Models(environ={}, scripts={"x": ScriptedModel(lambda request: Reply(text="hi"))})
    async with aclosing(models.stream(ModelRequest(model="scripted:x"))) as events:
        assert [event async for event in events]
    await models.aclose()
asyncio.run(main())
"""

ELSEWHERE = """
import asyncio, builtins, sys, threading
from mesh.models import Models
from mesh.models.api import Endpoint
real, on_the_loop = builtins.__import__, set()
def importing(name, *rest, **named):
    if name.partition(".")[0] in ("openai", "pydantic_ai") and name not in sys.modules:
        if threading.current_thread() is threading.main_thread():
            on_the_loop.add(name)
    return real(name, *rest, **named)
builtins.__import__ = importing
models = Models(environ={"OPENAI_API_KEY": "none"}, scripts={})
problem = asyncio.run(models.problem("openai-chat:any", Endpoint()))
assert problem is None and "openai" in sys.modules, problem
assert not on_the_loop, on_the_loop
"""


def test_a_provider_is_imported_beside_the_loop_which_has_heartbeats_to_send() -> None:
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import mesh; [getattr(mesh, name) for name in mesh.__all__]",
        "import mesh.cli, mesh.cli.app",
        "import mesh.client",
        "import mesh.models, schemas.message",
        SCRIPTED,
        COMMAND.format(arguments='"--help"'),
        COMMAND.format(arguments='"submit", "clerk", "hi", "--server", "nats://127.0.0.1:1"'),
    ],
    ids=["mesh", "cli", "client", "models", "a scripted answer", "mesh --help", "mesh submit"],
)
def test_nothing_of_a_provider_is_imported_by(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", CHECK.format(code=code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
