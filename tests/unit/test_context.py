"""The context: a handler that is called again goes through what it has done and on from there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from mesh.agents.context import Context
from mesh.errors import (
    InvalidInput,
    Nondeterministic,
    OutcomeUnknown,
    SecretMissing,
    StepFailed,
    TaskCancelled,
)
from schemas.step import EventAdded, StepCompleted, StepProgress, StepRequested, StepStarted, TextAdded
from schemas.step import StepFailed as StepFailedEvent
from tests.unit.recording import Died, Log, run


@dataclass
class Fact:
    text: str
    weight: float = 1.0


class Counter:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, value: Any = None) -> Any:
        self.calls.append(value)
        return value

    def fact(self, text: str) -> Fact:
        self.calls.append(text)
        return Fact(text)

    def fail(self) -> None:
        self.calls.append("fail")
        raise ValueError("no luck")


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def counter() -> Counter:
    return Counter()


async def test_a_step_is_performed_once_and_its_result_returned_again(log: Log, counter: Counter) -> None:
    async def handler(ctx: Context) -> Any:
        return await ctx.step("one", counter, {"a": (1, 2)})

    first = await run(log, handler)
    assert first == await run(log, handler) == {"a": [1, 2]}
    assert counter.calls == [{"a": (1, 2)}]


async def test_request_and_result_of_a_step_stand_or_fall_together(log: Log, counter: Counter) -> None:
    await run(log, lambda ctx: ctx.step("one", counter, 1))
    assert [type(one.data) for one in log.commits[2].events] == [StepRequested, StepCompleted]


async def test_a_result_comes_back_in_the_type_that_the_function_names(log: Log, counter: Counter) -> None:
    async def handler(ctx: Context) -> Any:
        return await ctx.step("fact", counter.fact, "water is wet")

    assert await run(log, handler) == Fact("water is wet")
    assert await run(log, handler) == Fact("water is wet")
    assert len(counter.calls) == 1


async def test_repeated_names_get_keys_by_their_order(log: Log, counter: Counter) -> None:
    async def handler(ctx: Context) -> list[Any]:
        return [await ctx.step("s", counter, index) for index in range(3)]

    assert await run(log, handler) == [0, 1, 2]
    assert [one.step for one in log.events if isinstance(one, StepRequested)] == ["s", "s#2", "s#3"]
    assert await run(log, handler) == [0, 1, 2]


async def test_a_failed_step_fails_again_without_being_performed(log: Log, counter: Counter) -> None:
    async def handler(ctx: Context) -> str:
        with pytest.raises(StepFailed) as failed:
            await ctx.step("bad", counter.fail)
        return failed.value.error.message

    assert await run(log, handler) == await run(log, handler) == "ValueError: no luck"
    assert counter.calls == ["fail"]


async def test_a_result_that_cannot_be_recorded_fails_its_step(log: Log, counter: Counter) -> None:
    async def handler(ctx: Context) -> str:
        with pytest.raises(StepFailed) as failed:
            await ctx.step("odd", counter, object())
        return failed.value.code

    assert await run(log, handler) == await run(log, handler) == "invalid_input"


@pytest.mark.parametrize("dies_before", range(2, 6))
async def test_wherever_a_worker_dies_the_next_one_goes_on(log: Log, counter: Counter, dies_before: int) -> None:
    async def handler(ctx: Context) -> list[Any]:
        first = await ctx.step("a", counter, "a")
        await ctx.emit_text("one ")
        await ctx.emit_event("half", {"n": 1})
        second = await ctx.step("b", counter, "b")
        await ctx.emit_text("two")
        return [first, second, await ctx.step("c", counter, "c")]

    with pytest.raises(Died):
        await run(log, handler, dies_before=dies_before)
    recorded = [one.step for one in log.events if isinstance(one, StepCompleted)]
    before = len(counter.calls)
    assert await run(log, handler) == ["a", "b", "c"]
    assert counter.calls[before:] == [name for name in "abc" if name not in recorded]
    assert "".join(one.text for one in log.events if isinstance(one, TextAdded)) == "one two"
    assert [one.name for one in log.events if isinstance(one, EventAdded)] == ["half"]


async def test_branches_side_by_side_find_their_results_in_any_order(log: Log, counter: Counter) -> None:
    order = ["x", "y", "z"]

    async def handler(ctx: Context) -> dict[str, Any]:
        async with asyncio.TaskGroup() as group:
            asked = {name: group.create_task(ctx.step(name, counter, name)) for name in order}
        return {name: task.result() for name, task in asked.items()}

    wanted = await run(log, handler)
    order.reverse()
    assert await run(log, handler) == wanted
    assert sorted(counter.calls) == ["x", "y", "z"]


async def test_a_branch_with_a_new_step_waits_until_the_others_have_replayed(log: Log, counter: Counter) -> None:
    async def branch(ctx: Context, *names: str) -> None:
        for name in names:
            await ctx.step(name, counter, name)

    async def first(ctx: Context) -> None:
        await branch(ctx, "a1")
        await branch(ctx, "b1", "b2")

    async def both(ctx: Context) -> None:
        await asyncio.gather(branch(ctx, "a1", "a2"), branch(ctx, "b1", "b2", "b3"))

    await run(log, first)
    await run(log, both)
    assert sorted(counter.calls) == ["a1", "a2", "b1", "b2", "b3"]


async def test_a_handler_that_asks_for_another_step_is_nondeterministic(log: Log, counter: Counter) -> None:
    await run(log, lambda ctx: ctx.step("old", counter, 1))
    with pytest.raises(Nondeterministic, match=r"\['old'\].*\['new'\]"):
        await run(log, lambda ctx: ctx.step("new", counter, 2))
    assert counter.calls == [1]


async def test_a_handler_that_asks_for_fewer_steps_is_nondeterministic(log: Log, counter: Counter) -> None:
    async def two(ctx: Context) -> None:
        await ctx.step("a", counter)
        await ctx.step("b", counter)

    await run(log, two)
    with pytest.raises(Nondeterministic, match="ended early"):
        await run(log, lambda ctx: ctx.step("a", counter))


async def test_a_handler_may_ask_for_more_than_the_log_holds(log: Log, counter: Counter) -> None:
    async def two(ctx: Context) -> None:
        await ctx.step("a", counter)
        await ctx.step("b", counter)

    await run(log, lambda ctx: ctx.step("a", counter))
    await run(log, two)
    assert len(counter.calls) == 2


async def test_a_step_that_must_not_be_repeated_commits_its_start_first(log: Log, counter: Counter) -> None:
    await run(log, lambda ctx: ctx.step("pay", counter, 5, idempotent=False))
    assert [type(one) for one in log.events] == [StepRequested, StepStarted, StepCompleted]


async def test_a_step_that_must_not_be_repeated_has_an_unknown_outcome_after_a_crash(
    log: Log, counter: Counter
) -> None:
    async def handler(ctx: Context) -> str:
        with pytest.raises(OutcomeUnknown) as unknown:
            await ctx.step("pay", counter, 5, idempotent=False)
        return unknown.value.code

    with pytest.raises(Died):
        await run(log, lambda ctx: ctx.step("pay", counter, 5, idempotent=False), dies_before=3)
    assert await run(log, handler) == await run(log, handler) == "tool_outcome_unknown"
    assert counter.calls == [5]
    assert sum(isinstance(one, StepFailedEvent) for one in log.events) == 1


async def test_now_is_the_recorded_time_of_the_step_before(log: Log, counter: Counter) -> None:
    async def handler(ctx: Context) -> list[str]:
        times = [ctx.now()]
        for name in ("a", "b"):
            await ctx.step(name, counter)
            times.append(ctx.now())
        return [time.isoformat() for time in times]

    first = await run(log, handler)
    assert first == sorted(set(first))
    assert await run(log, handler) == first


async def test_random_gives_the_same_numbers_after_a_crash(log: Log) -> None:
    async def handler(ctx: Context) -> list[float]:
        return [ctx.random.random() for _ in range(3)]

    assert await run(log, handler) == await run(log, handler)


async def test_the_attempt_counts_the_claims(log: Log) -> None:
    async def handler(ctx: Context) -> int:
        return ctx.task.attempt

    assert [await run(log, handler) for _ in range(3)] == [1, 2, 3]


def test_a_secret_comes_from_the_environment_and_not_into_the_log(log: Log) -> None:
    context, _ = log.claim({"API_KEY": "s3cret"})
    assert context.secret("API_KEY") == "s3cret"
    with pytest.raises(SecretMissing, match="OTHER"):
        context.secret("OTHER")
    assert not any(b"s3cret" in body for body in log.bodies)


async def test_text_is_told_at_once_and_committed_with_the_next_step(log: Log, counter: Counter) -> None:
    context, _ = log.claim()
    await context.emit_text("hello ")
    await context.emit_text("world")
    assert log.told == [(0, "hello "), (6, "world")]
    await context.step("s", counter)
    assert log.events[0].text == "hello world"


async def test_text_told_again_is_skipped_as_far_as_the_log_holds_it(log: Log, counter: Counter) -> None:
    async def handler(ctx: Context) -> None:
        await ctx.emit_text("hello ")
        await ctx.step("s", counter)
        await ctx.emit_text("wörld")

    with pytest.raises(Died):
        await run(log, handler, dies_before=3)
    log.told.clear()
    await run(log, handler)
    assert log.told == [(6, "wörld")]


async def test_long_text_is_committed_in_pieces(log: Log) -> None:
    async def handler(ctx: Context) -> None:
        await ctx.emit_text("x" * 100_000)

    await run(log, handler)
    texts = [one for one in log.events if isinstance(one, TextAdded)]
    assert len(texts) > 5
    assert sum(len(one.text) for one in texts) == 100_000


async def test_progress_is_not_told_again_while_replaying(log: Log, counter: Counter) -> None:
    async def handler(ctx: Context) -> None:
        await ctx.emit_progress("half", 0.5)
        await ctx.step("s", counter)

    await run(log, handler)
    await run(log, handler)
    assert [one.fraction for one in log.events if isinstance(one, StepProgress)] == [0.5]


@pytest.mark.parametrize("name", ["", "x" * 129, "a\x00b", "\ud800", 5, ("a",), None], ids=repr)
async def test_a_step_needs_a_name_that_the_log_can_hold(log: Log, counter: Counter, name: Any) -> None:
    with pytest.raises(InvalidInput):
        await run(log, lambda ctx: ctx.step(name, counter))
    assert not counter.calls


@pytest.mark.parametrize("text", ["\ud83d", 5, None, b"bytes"], ids=repr)
async def test_only_text_that_the_log_can_hold_is_emitted(log: Log, text: Any) -> None:
    context, recorder = log.claim()
    with pytest.raises(InvalidInput):
        await context.emit_text(text)
    with pytest.raises(InvalidInput):
        await context.emit_progress(text)
    with pytest.raises(InvalidInput):
        await context.emit_event(text)
    assert not recorder.emits
    assert not log.told


async def test_an_event_must_fit_into_json(log: Log) -> None:
    context, recorder = log.claim()
    with pytest.raises(InvalidInput):
        await context.emit_event("x", object())
    assert not recorder.emits


async def test_a_cancelled_task_begins_no_effect(log: Log, counter: Counter) -> None:
    context, recorder = log.claim()
    context.check_cancelled()
    recorder.stopping = True
    with pytest.raises(TaskCancelled):
        context.check_cancelled()
    with pytest.raises(TaskCancelled):
        await context.step("s", counter)
    assert not counter.calls
