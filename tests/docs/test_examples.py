"""The examples of a page are files in one folder, and their tests pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"```python\n# (\S+\.py)\n(.*?)```", re.DOTALL)
SETTINGS = '[tool.pytest.ini_options]\nasyncio_mode = "auto"\n'
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("MESH_", "OPENAI_", "PYTHON"))}


@pytest.mark.parametrize("page", ["tools", "models", "artifacts", "errors", "conversations"])
def test_the_examples_of_a_page_pass(page: str, tmp_path: Path) -> None:
    files = BLOCK.findall((DOCS / f"{page}.md").read_text(encoding="utf-8"))
    assert files
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    for name, text in files:
        assert not (tmp_path / name).exists(), f"two examples are named {name}"
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=tmp_path, env=CLEAN, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
