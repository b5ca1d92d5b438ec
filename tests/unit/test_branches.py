"""Branches of one handler: their steps have keys of their own and share everything else."""

from __future__ import annotations

import asyncio

import pytest

from mesh import Context, StepFailed
from schemas import error as codes
from schemas.step import StepRequested
from tests.unit.recording import Log, run


async def work(ctx: Context) -> list[int]:
    async def branch(name: str, number: int) -> int:
        here = ctx.branch(name)
        first = await here.step("add", lambda: number)
        return first + await here.branch("inner").step("add", lambda: number)

    return list(await asyncio.gather(branch("left", 1), branch("right", 2)))


async def test_each_branch_has_its_own_keys_and_a_replay_performs_nothing() -> None:
    log = Log()
    assert await run(log, work) == [2, 4]
    keys = {one.step for one in log.events if isinstance(one, StepRequested)}
    assert keys == {"left/add", "left/inner/add", "right/add", "right/inner/add"}
    before = len(log.events)
    assert await run(log, work) == [2, 4]
    assert len(log.events) == before


async def test_text_of_branches_is_skipped_together_on_a_replay() -> None:
    log = Log()

    async def talk(ctx: Context) -> None:
        await ctx.branch("a").emit_text("one ")
        await ctx.branch("b").emit_text("two ")

    await run(log, talk)
    await run(log, talk)
    assert [one.text for one in log.events] == ["one two "]


async def test_an_effect_over_the_time_of_its_branch_ends_as_tool_timeout() -> None:
    log = Log()

    async def late(ctx: Context) -> None:
        await ctx.branch("slow", timeout_s=0.01).branch("inner", timeout_s=60).step("wait", asyncio.Event().wait)

    for _ in range(2):
        with pytest.raises(StepFailed) as caught:
            await run(log, late)
        assert caught.value.code == codes.TOOL_TIMEOUT
