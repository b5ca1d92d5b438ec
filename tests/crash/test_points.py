"""Kills and freezes at each single write of a task."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.server import EmbeddedServer
from mesh.testing import CrashPointsFailed, crash_points, freeze_points

# Each test is some dozens of meshes, one after the other: minutes on a machine that has other things to do.
pytestmark = pytest.mark.timeout(900)
BROKEN = f"{Path(__file__).parent / 'broken_app.py'}:app"


@pytest.mark.parametrize(("agent", "input"), [("everything", 3), ("pay", 3), ("branches", 3)])
async def test_a_kill_at_any_write_cannot_be_told_afterwards(
    app: str, agent: str, input: int, mesh_server: EmbeddedServer
) -> None:
    report = await crash_points(app, agent, input, once=("charge",), server=mesh_server)
    assert len(report.points) - len(report.unreached) >= 8


async def test_a_kill_around_an_effect_or_an_acknowledgement_cannot_be_told_either(
    app: str, mesh_server: EmbeddedServer
) -> None:
    await crash_points(app, "everything", 3, kinds=("perform", "ack", "send"), server=mesh_server)


@pytest.mark.parametrize(("agent", "input"), [("hello", "otters"), ("countdown", 1), ("assistant", "otters")])
async def test_the_demo_agents_survive_a_kill_at_any_write(
    agent: str, input: object, mesh_server: EmbeddedServer
) -> None:
    await crash_points("mesh.demo:app", agent, input, server=mesh_server)


@pytest.mark.parametrize(("agent", "input"), [("everything", 3), ("pay", 3)])
async def test_a_worker_frozen_at_any_write_wakes_up_fenced(
    app: str, agent: str, input: int, mesh_server: EmbeddedServer
) -> None:
    report = await freeze_points(app, agent, input, once=("charge",), server=mesh_server)
    assert len(report.points) - len(report.unreached) >= 8


async def test_an_effect_outside_any_step_is_found_and_named(app: str, mesh_server: EmbeddedServer) -> None:
    with pytest.raises(CrashPointsFailed) as failed:
        await crash_points(app, "careless", 4, roles=("executor",), server=mesh_server)
    assert (
        "killed executor before append 3 (mesh.task.crash-point.crash-point): "
        "effect 'charge' was made twice, undisturbed once, outside any step"
    ) in str(failed.value)


async def test_an_effect_that_must_be_made_once_and_stands_in_a_repeatable_step_is_found(
    app: str, mesh_server: EmbeddedServer
) -> None:
    with pytest.raises(CrashPointsFailed, match=r"before append 2 .*effect 'charge' was made twice.* in step 'charge'"):
        await crash_points(
            app, "hasty", 4, roles=("executor",), sides=("before",), once=("charge",), server=mesh_server
        )


async def test_a_committed_step_that_is_made_again_is_found_without_any_help_of_the_app(
    mesh_server: EmbeddedServer,
) -> None:
    with pytest.raises(CrashPointsFailed, match="step 'upper' was performed under the claims") as failed:
        await crash_points(BROKEN, "two_steps", "x", roles=("executor",), sides=("after",), server=mesh_server)
    assert "step 'upper' is requested again" in str(failed.value)
