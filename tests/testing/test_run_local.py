"""A handler without a broker, and with the log of one that had one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh import Agent, Context, Mesh
from mesh.errors import InvalidInput, Nondeterministic
from mesh.models import Reply
from mesh.testing import FakeClock, LocalMesh, assert_invariants, run_local
from tests.testing.shop import add, app, report


def agent(handler: Callable[..., object]) -> Agent:
    return Mesh("unit").agent(handler, name="changing")  # type: ignore[call-overload,no-any-return]


async def test_a_run_tells_output_text_events_progress_and_steps() -> None:
    result = await run_local(report, "otters", secrets={"KEY": "k"}, clock=FakeClock())
    assert (result.state, result.output, result.error) == ("completed", "summary of otters", None)
    assert result.text == "found 2 facts. "
    assert [(one.name, one.data) for one in result.events] == [("facts", {"count": 2})]
    assert [one.message for one in result.progress] == ["looking"]
    assert result.steps == {"facts": ["otters", "b"], "key": "k"}
    assert result.performed == ("facts", "key")


async def test_a_local_log_keeps_every_invariant() -> None:
    assert_invariants((await run_local(report, "otters", secrets={"KEY": "k"})).log)


async def test_what_a_handler_raises_is_the_error_of_its_task() -> None:
    result = await run_local(report, "otters")
    assert result.state == "failed"
    assert result.error
    assert "KEY" in (result.error.hint or "")


async def test_an_input_that_does_not_fit_fails_as_on_a_mesh(local_mesh: Callable[..., LocalMesh]) -> None:
    local = await run_local(add, {"a": 1})
    async with local_mesh(app) as mesh:
        real = await mesh.run(add, {"a": 1})
    assert local.error == real.error


async def test_a_replay_performs_nothing_again_and_comes_to_the_same() -> None:
    before = await run_local(report, "otters", secrets={"KEY": "k"})
    again = await run_local(report, replay=before.log)
    assert again.performed == ()
    assert (again.output, again.text, again.events) == (before.output, before.text, before.events)
    assert_invariants(again.log)


async def test_a_replay_goes_on_after_any_commit() -> None:
    before = await run_local(report, "otters", secrets={"KEY": "k"})
    for length in range(1, len(before.log)):
        log = before.log[:length]
        again = await run_local(report, replay=log, secrets={"KEY": "k"})
        assert again.text == before.text
        begun = any(event.type == "step.started" for entry in log for event in entry.commit.events)
        assert again.state == ("failed" if begun and "key" not in _ended(log) else "completed")


def _ended(log: tuple) -> set[str]:  # type: ignore[type-arg]
    return {event.data.step for entry in log for event in entry.commit.events if event.type == "step.completed"}


async def test_a_log_of_a_mesh_can_be_replayed(local_mesh: Callable[..., LocalMesh]) -> None:
    async with local_mesh(app, secrets={"KEY": "k"}.get) as mesh:
        result = await mesh.run(report, "otters", task_id="real")
        log = await mesh.log("real")
    again = await run_local(report, replay=log)
    assert (again.performed, again.output) == ((), result.output)


async def test_the_scripted_models_of_an_app_answer_and_no_other_is_asked() -> None:
    parrots = Mesh("parrots")
    script = parrots.scripted_model("parrot", lambda request: Reply(text=request.messages[-1].text))
    parrot = parrots.model_agent("parrot", model=script)
    mute = parrots.model_agent("mute", model="openai:gpt-5-mini")
    told = await run_local(parrot, "hello", app=parrots)
    assert told.output == "hello"
    assert told.usage
    assert (told.usage.requests, told.usage.input_tokens) == (1, 1)
    refused = await run_local(mute, "hello", app=parrots)
    assert refused.error
    assert refused.error.code == "model_not_configured"


async def test_a_result_names_what_was_written() -> None:
    async def writes(ctx: Context) -> None:
        await ctx.write_artifact("notes.txt", "old")
        await ctx.write_artifact("notes.txt", "newer")

    result = await run_local(agent(writes))
    assert [(one.name, one.size, one.media_type) for one in result.artifacts] == [
        ("notes.txt", 3, "text/plain"),
        ("notes.txt", 5, "text/plain"),
    ]
    assert result.usage is None


async def test_a_name_is_no_agent() -> None:
    with pytest.raises(InvalidInput, match="'desk' is no agent"):
        await run_local("desk", "hi")  # type: ignore[arg-type]


async def test_a_changed_handler_fails_as_an_executor_would_suspend_it() -> None:
    before = await run_local(report, "otters", secrets={"KEY": "k"})

    async def changed(ctx: Context, topic: str) -> str:
        return await ctx.step("other", str.upper, topic)

    with pytest.raises(Nondeterministic, match="asks for step 'other'"):
        await run_local(agent(changed), replay=before.log)


async def test_a_handler_that_forgets_a_step_fails_too() -> None:
    before = await run_local(report, "otters", secrets={"KEY": "k"})

    async def shorter(ctx: Context, topic: str) -> str:
        return topic

    with pytest.raises(Nondeterministic, match="ended early"):
        await run_local(agent(shorter), replay=before.log)
