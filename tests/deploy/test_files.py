"""The files an operator starts from are ones that the programs they are for accept."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mesh import BusUnavailable
from mesh.bus import Bus
from mesh.doctor import examine
from mesh.server import find_binary
from mesh.settings import Settings
from mesh.testing import eventually
from mesh.testing.cluster import free_ports

DEPLOY = Path(__file__).parents[2] / "deploy"
ENVIRONMENT = {"NATS_NAME": "nats-1", "MESH_PASSWORD": "m", "SYSTEM_PASSWORD": "s"}


def in_folder(file: str, folder: Path) -> Path:
    """A copy of a server's configuration that keeps its data in this folder."""
    folder.mkdir(exist_ok=True)
    config = folder / "nats.conf"
    config.write_text((DEPLOY / file).read_text().replace("/var/lib/nats/mesh", str(folder / "data")))
    return config


@pytest.mark.parametrize("file", ["nats-single.conf", "nats-cluster.conf"])
def test_the_server_accepts_its_configuration(file: str, tmp_path: Path) -> None:
    config = in_folder(file, tmp_path)
    command = [str(find_binary(os.environ)), "-t", "-c", str(config)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | ENVIRONMENT)
    assert checked.returncode == 0, checked.stderr


async def test_three_servers_of_the_cluster_file_are_what_the_profile_wants(tmp_path: Path) -> None:
    """As in the file, but for the addresses: three hosts are three ports here."""
    ports = free_ports(6)
    routes = ", ".join(f"nats://127.0.0.1:{port}" for port in ports[3:])
    url, system_url = (
        ",".join(f"nats://{user}@127.0.0.1:{one}" for one in ports[:3]) for user in ("mesh:m", "system:s")
    )
    async with AsyncExitStack() as stack:
        for number, (client, cluster) in enumerate(zip(ports[:3], ports[3:], strict=True), 1):
            config = in_folder("nats-cluster.conf", tmp_path / f"{number}")
            text = config.read_text().replace("0.0.0.0:4222", f"127.0.0.1:{client}")
            text = text.replace("0.0.0.0:6222", f"127.0.0.1:{cluster}")
            config.write_text(re.sub(r"routes: \[.*\]", f"routes: [ {routes} ]", text))
            environment = os.environ | ENVIRONMENT | {"NATS_NAME": f"nats-{number}"}
            command = [str(find_binary(os.environ)), "-c", str(config), "-l", str(tmp_path / f"{number}.log")]
            process = subprocess.Popen(command, env=environment)
            stack.callback(process.wait)
            stack.callback(process.kill)
        bus = await eventually(lambda: Bus.connect(url, name="doctor"), 20, forgive=BusUnavailable)
        stack.push_async_callback(bus.aclose)
        system = await Bus.connect(system_url, name="doctor")
        stack.push_async_callback(system.aclose)
        await eventually(lambda: is_as_it_must_be(bus, system), 30, forgive=BusUnavailable)


async def is_as_it_must_be(bus: Bus, system: Bus) -> None:
    settings = Settings(profile="cluster")
    found = {one.what: one async for one in examine(bus, settings, apply=True, system=system)}
    assert found["server"].state == "ok", found["server"]
    assert found["durability"].state == "ok", found["durability"]
    assert found["streams"].state == "ok", found["streams"]


def test_the_unit_starts_a_service_and_leaves_it_time_to_drain() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.read(DEPLOY / "mesh@.service")
    assert unit["Service"]["ExecStart"].split()[1:3] == ["service", "%i"]
    assert int(unit["Service"]["TimeoutStopSec"]) > 10
