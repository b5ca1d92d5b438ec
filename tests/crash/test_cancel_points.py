"""Kills and freezes at each single write of a task that is canceled while it waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.server import EmbeddedServer
from mesh.testing.crash_run import Scenario
from mesh.testing.crashes import Wanted, try_points

# Each test is some forty meshes, one after the other: minutes on a machine that has other things to do.
pytestmark = pytest.mark.timeout(900)
APP = f"{Path(__file__).parent / 'attached_app.py'}:app"


@pytest.mark.parametrize("wanted", [Wanted(), Wanted(how="freeze", roles=("executor",))], ids=["killed", "frozen"])
async def test_the_handler_stops_what_it_began_whichever_worker_falls_where(
    mesh_server: EmbeddedServer, wanted: Wanted
) -> None:
    scenario = Scenario(app=APP, agent="attaches", input="x", server=mesh_server, cancel_at="suspended")
    report = await try_points(scenario, wanted)
    assert {run.point.role for run in report.runs if run.point and run.reached} == set(wanted.roles)
    for run in (report.undisturbed, *report.runs):
        assert run.result
        assert run.result.state == "canceled"
        assert run.entries[-1].commit.by.startswith("executor/")
        said = [one.data.data for entry in run.entries for one in entry.commit.events if one.type == "event.added"]
        assert said == ["job 1"], run.point
