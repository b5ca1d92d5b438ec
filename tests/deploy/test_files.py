"""The files an operator starts from are ones that the programs they are for accept."""

from __future__ import annotations

import configparser
import os
import subprocess
from pathlib import Path

from mesh.server import find_binary

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_server_accepts_its_configuration(tmp_path: Path) -> None:
    text = (DEPLOY / "nats-single.conf").read_text().replace("/var/lib/nats/mesh", str(tmp_path))
    config = tmp_path / "nats.conf"
    config.write_text(text)
    checked = subprocess.run([find_binary(os.environ), "-t", "-c", config], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_the_unit_starts_a_service_and_leaves_it_time_to_drain() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.read(DEPLOY / "mesh@.service")
    assert unit["Service"]["ExecStart"].split()[1:3] == ["service", "%i"]
    assert int(unit["Service"]["TimeoutStopSec"]) > 10
