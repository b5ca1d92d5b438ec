"""Settings come from variables, and a value that cannot work is refused by its name."""

from __future__ import annotations

import pytest

from mesh.durability import PROFILES
from mesh.errors import InvalidInput
from mesh.settings import Settings, settings_from


def test_every_setting_has_a_variable() -> None:
    given = {"MESH_PREFIX": "m1", "MESH_ACK_WAIT_S": "0.5", "MESH_SLOTS": "7", "MESH_KEEP_S": "0", "PATH": "x"}
    assert settings_from(given) == Settings(prefix="m1", ack_wait_s=0.5, slots=7, keep_s=0)
    assert settings_from({}) == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MESH_SLOTS", "many"),
        ("MESH_SLOTS", "0"),
        ("MESH_SLOTS", "-1"),
        ("MESH_MAX_ATTEMPTS", "0"),
        ("MESH_ACK_WAIT_S", "nan"),
        ("MESH_ACK_WAIT_S", "0"),
        ("MESH_DRAIN_S", "inf"),
        ("MESH_KEEP_S", "-1"),
        ("MESH_PREFIX", "a.b"),
        ("MESH_PREFIX", "Mesh"),
        ("MESH_PREFIX", ""),
        ("MESH_PROFILE", "forever"),
    ],
)
def test_a_value_that_cannot_work_is_refused(variable: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=variable.removeprefix("MESH_").lower() + "|" + variable):
        settings_from({variable: value})


def test_a_profile_says_how_many_replicas_there_are_and_whether_writes_are_flushed() -> None:
    told = {name: settings_from({"MESH_PROFILE": name}).durability for name in PROFILES}
    assert {name: (one.replicas, one.flushed) for name, one in told.items()} == {
        "dev": (1, False), "single": (1, True), "cluster": (3, True),
    }  # fmt: skip
    assert Settings().profile == "dev"


def test_a_held_delivery_is_kept_alive_well_within_its_time() -> None:
    assert Settings().tick_s == 1.0
    assert Settings(ack_wait_s=0.3).tick_s == pytest.approx(0.1)
