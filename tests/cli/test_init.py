from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import Start


def test_the_app_that_init_writes_runs_and_its_test_passes(start: Start, folder: Path) -> None:
    init = start("init", "shop")
    assert init.code() == 0
    run = start("run", "report", "otters", "--app", "shop/app.py:app")
    assert run.code() == 0
    assert run.out == "found 2 facts. \notters exist; there are books on otters\n"
    clerk = start("run", "clerk", "what does an otter cost?", "--app", "shop/app.py:app")
    assert clerk.code() == 0
    assert "An otter costs 7.50 EUR" in clerk.out
    assert 'price(item="otter") → 7.5' in clerk.err
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_app.py"],
        cwd=folder / "shop", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert tests.returncode == 0, tests.stdout


def test_init_never_overwrites(start: Start, folder: Path) -> None:
    (folder / "app.py").write_text("mine")
    init = start("init")
    assert init.code() == 2
    assert "app.py is there already" in init.err
    assert (folder / "app.py").read_text() == "mine"
    assert not (folder / "test_app.py").exists()
