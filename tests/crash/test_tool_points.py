"""Kills and freezes at each single write of a task that calls tools (behaviour 1)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.server import EmbeddedServer
from mesh.testing import CrashPointsFailed, CrashReport, crash_points, freeze_points
from mesh.testing.crash_checks import outcome_unknown
from mesh.testing.crash_run import Run
from mesh.testing.trace import EFFECT

# Each test is some forty meshes, one after the other: minutes on a machine that has other things to do.
pytestmark = pytest.mark.timeout(900)
HERE = Path(__file__).parent
TOOLS = f"{HERE / 'tools_app.py'}:app"
HASTY = f"{HERE / 'hasty_tools_app.py'}:app"


def unknown(report: CrashReport) -> Iterator[Run]:
    """The runs whose kill hit the call that must not be repeated."""
    for run in report.runs:
        if outcome_unknown(run.entries):
            yield run


def charges(run: Run) -> int:
    return sum(line.kind == EFFECT and line.subject == "charge" for line in run.trace)


async def test_a_kill_at_any_write_of_a_turn_with_two_tool_calls_repeats_no_committed_call(
    mesh_server: EmbeddedServer,
) -> None:
    report = await crash_points(TOOLS, "turn", 3, once=("charge",), server=mesh_server)
    reached = {run.point.role for run in report.runs if run.point and run.reached}
    assert reached == {"executor", "router", "tool-runner"}
    hit = list(unknown(report))
    assert hit
    for run in hit:
        assert run.point
        assert run.point.role == "tool-runner"
        assert charges(run) <= 1
        assert run.result
        assert run.result.output == {"cost": 12, "receipt": "ask the bank"}


async def test_a_runner_killed_around_an_effect_or_an_acknowledgement_repeats_nothing_either(
    mesh_server: EmbeddedServer,
) -> None:
    await crash_points(
        TOOLS, "turn", 3, kinds=("perform", "ack"), roles=("tool-runner",), once=("charge",), server=mesh_server
    )


async def test_a_runner_frozen_at_any_write_wakes_up_and_repeats_nothing(mesh_server: EmbeddedServer) -> None:
    report = await freeze_points(TOOLS, "turn", 3, roles=("tool-runner",), once=("charge",), server=mesh_server)
    assert all(charges(run) <= 1 for run in report.runs)


async def test_a_runner_that_acts_before_its_start_is_committed_is_found_and_named(
    mesh_server: EmbeddedServer,
) -> None:
    with pytest.raises(CrashPointsFailed) as failed:
        await crash_points(
            HASTY, "pays", 3, kinds=("append",), roles=("tool-runner",), once=("charge",), server=mesh_server
        )
    assert "killed tool-runner before append 1 (mesh.task.crash-point.crash-point): effect 'charge' was made" in str(
        failed.value
    )
