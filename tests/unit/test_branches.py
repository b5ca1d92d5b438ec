"""Branches of one handler: their steps have keys of their own and share everything else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mesh import Context, InvalidInput, StepFailed
from mesh.agents import replay
from mesh.log import large
from schemas import error as codes
from schemas.step import StepCompleted, StepRequested
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


@pytest.mark.parametrize("first", [0, 1])
async def test_branches_of_one_name_are_numbered_as_they_were_opened_whichever_is_faster(first: int) -> None:
    log, order = Log(), [asyncio.Event(), asyncio.Event()]

    async def twins(ctx: Context) -> list[int]:
        async def branch(here: Context, number: int) -> int:
            if number != first:
                await order[number].wait()
            value = await here.step("add", lambda: number)
            order[1 - number].set()
            return value

        return list(await asyncio.gather(*(branch(ctx.branch("twin"), number) for number in range(2))))

    assert await run(log, twins) == [0, 1]
    assert {one.step: one.output for one in log.events if isinstance(one, StepCompleted)} == {
        "twin/add": 0, "twin#2/add": 1,
    }  # fmt: skip


async def test_no_name_looks_like_the_number_of_another() -> None:
    log = Log()

    async def names(ctx: Context) -> None:
        for context in (ctx.branch("a"), ctx.branch("a"), ctx.branch("a#2"), ctx):
            await context.step("s", lambda: 1)
            await context.step("s", lambda: 1)
        await ctx.step("a", lambda: 1)

    await run(log, names)
    assert [one.step for one in log.events if isinstance(one, StepRequested)] == [
        "a/s", "a/s#2", "a#2/s", "a#2/s#2", "a##2/s", "a##2/s#2", "s", "s#2", "a",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", "x" * 129, "nul\x00", "\ud800"])
async def test_a_branch_has_a_name_that_can_be_kept(name: str) -> None:
    context, _ = Log().claim()
    with pytest.raises(InvalidInput):
        context.branch(name)


async def test_a_branch_that_reads_its_large_result_back_for_long_is_no_divergence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, real, slow = Log(), large.restore, asyncio.Event()
    monkeypatch.setattr(replay, "REPLAY_GRACE_S", 0.01)

    async def restore(data: Any, objects: Any) -> Any:
        if slow.is_set():
            await asyncio.sleep(0.1)
        return await real(data, objects)

    monkeypatch.setattr(large, "restore", restore)

    async def two(ctx: Context, again: bool) -> None:
        async def left() -> None:
            here = ctx.branch("left")
            await here.step("big", lambda: 1)
            await here.step("then", lambda: 2)

        async def right() -> None:
            await ctx.branch("right").step("new", lambda: 3)

        await asyncio.gather(left(), *([right()] if again else []))

    await run(log, lambda ctx: two(ctx, again=False))
    slow.set()
    await run(log, lambda ctx: two(ctx, again=True))
    assert [one.step for one in log.events if isinstance(one, StepRequested)] == ["left/big", "left/then", "right/new"]
