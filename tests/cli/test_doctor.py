"""`mesh doctor` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from mesh.server import EmbeddedServer, read_server_json
from tests.cli.commands import Command
from tests.cli.conftest import Start


def found(doctor: Command) -> dict[str, dict[str, str]]:
    """The last finding of each kind."""
    return {one["what"]: one for one in map(json.loads, doctor.out.splitlines())}


async def test_one_of_several_servers_is_enough_to_look_at_a_mesh(start: Start, tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "elsewhere") as server:
        doctor = start("doctor", "--json", "--apply", "--server", f"127.0.0.1:1,{server.url},nats://127.0.0.1:2")
        doctor.code()
        assert found(doctor)["streams"]["state"] == "ok"


async def test_the_profile_of_the_environment_is_held_against_the_servers_that_the_system_account_names(
    start: Start, tmp_path: Path
) -> None:
    async with EmbeddedServer(tmp_path / "elsewhere") as server:
        record = read_server_json(server.store)
        assert record is not None
        without = start("doctor", "--json", "--server", server.url, env={"MESH_PROFILE": "single"})
        without.code()
        assert found(without)["durability"]["state"] == "note"
        known = {"MESH_PROFILE": "single", "MESH_SYSTEM_URL": record.system_url}
        doctor = start("doctor", "--json", "--server", server.url, env=known)
        assert doctor.code() == 1
        assert "flushes every 120 s" in found(doctor)["durability"]["message"]
        assert "free" in found(doctor)["disk"]["message"]


async def test_the_doctor_sees_disk_and_flushing_of_the_mesh_in_this_folder(start: Start) -> None:
    dev = start("dev", "zoo.py:app", env={"MESH_PROFILE": "single"})
    dev.until("Ctrl-C stops")
    doctor = start("doctor", "--json", env={"MESH_PROFILE": "single"})
    assert doctor.code() == 0, doctor.out
    assert found(doctor)["durability"]["state"] == "ok"
    assert "free" in found(doctor)["disk"]["message"]


async def test_a_profile_that_there_is_not_is_refused(start: Start) -> None:
    doctor = start("doctor", env={"MESH_PROFILE": "forever"})
    assert doctor.code() == 2
    assert "MESH_PROFILE" in doctor.err
