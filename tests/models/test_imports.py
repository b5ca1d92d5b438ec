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
