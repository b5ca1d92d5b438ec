"""Tools in the test kit: without a broker, and in a whole mesh inside one test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mesh import Context, Mesh, OutcomeUnknown, StepFailed
from mesh.agents.tool_context import ToolContext
from mesh.testing import LocalMesh, assert_invariants, run_local

app = Mesh("kit-tools", version="1")
failures: list[Exception] = []


@app.tool(idempotent=True)
async def price(sku: str, count: int = 1) -> float:
    return len(sku) * count


@app.tool(max_attempts=3, backoff_s=60)
def flaky(text: str) -> str:
    if failures:
        raise failures.pop()
    return text.upper()


@app.tool
async def slow(ctx: ToolContext) -> str:
    ctx.progress("waiting", 0.5)
    await asyncio.Event().wait()
    return ctx.secret("KEY")


@app.agent
async def shop(ctx: Context, sku: str) -> dict[str, Any]:
    cost = await ctx.tool(price, sku, count=2)
    return {"cost": cost, "said": await ctx.tool("flaky", {"text": sku})}


@app.agent
async def patient(ctx: Context) -> str:
    try:
        return await ctx.tool("slow", {}, timeout_s=0.01)  # type: ignore[no-any-return]
    except OutcomeUnknown:
        return "unknown"
    except StepFailed as error:
        return error.code


async def test_tools_are_called_without_a_broker() -> None:
    failures[:] = [ValueError("once"), ValueError("twice")]
    result = await run_local(shop, "otter", app=app)
    assert result.output == {"cost": 10.0, "said": "OTTER"}
    assert result.performed == ("price", "flaky", "flaky", "flaky")
    assert_invariants(result.log)


async def test_a_tool_that_fails_for_good_fails_its_step() -> None:
    failures[:] = [ValueError(str(n)) for n in range(3)]
    result = await run_local(shop, "otter", app=app)
    assert result.state == "failed"
    assert result.steps["flaky"].code == "tool_failed"
    assert_invariants(result.log)


async def test_arguments_progress_and_time_outs_are_as_on_a_mesh() -> None:
    result = await run_local(patient, app=app)
    assert result.output == "tool_timeout"
    assert [(one.step, one.message) for one in result.progress] == [("slow", "waiting")]


async def test_a_replay_makes_no_recorded_call_again() -> None:
    failures.clear()
    before = await run_local(shop, "otter", app=app)
    for length in range(1, len(before.log)):
        again = await run_local(shop, replay=before.log[:length], app=app)
        recorded = {
            event.data.step
            for entry in before.log[:length]
            for event in entry.commit.events
            if event.type == "step.completed"
        }
        assert not recorded & set(again.performed)
        assert_invariants(again.log)


async def test_a_replay_of_a_start_without_a_result_is_an_unknown_outcome() -> None:
    whole = await run_local(patient, app=app)
    begun = next(n for n, entry in enumerate(whole.log) if entry.commit.events[0].type == "step.started")
    again = await run_local(patient, replay=whole.log[: begun + 1], app=app)
    assert (again.output, again.performed) == ("unknown", ())


async def test_a_whole_mesh_has_a_tool_runner_if_its_app_has_tools(local_mesh: Callable[..., LocalMesh]) -> None:
    failures.clear()
    async with local_mesh(app) as mesh:
        result = await mesh.run(shop, "otter")
    assert result.output == {"cost": 10.0, "said": "OTTER"}
