"""Prompts are put together again from a log, and a handler that is called again must ask the same."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from mesh import Context, Mesh
from mesh.agents import recipe
from mesh.agents.app import Agent
from mesh.agents.model_step import with_distinct_calls
from mesh.agents.recipe import Conversations, check_same, definition_of, prompt_of
from mesh.errors import ArtifactDamaged, ArtifactMissing, InvalidInput, Nondeterministic
from mesh.log.journal import Journal
from mesh.models import ModelRequest, Reply, ScriptedModel
from mesh.models.scripted import in_turn
from mesh.testing import run_local
from mesh.testing.local_run import LocalResult
from mesh.testing.objects import MemoryObjects
from schemas.message import Message, Part, Recipe, user_message
from schemas.step import StepRequested

MODEL = ScriptedModel(in_turn(Reply(text="one"), Reply(text="two"), Reply(text="three")))


def asks(instructions: str, *prompts: str) -> Agent:
    """An agent that says these prompts one after the other, in one conversation."""

    async def talk(ctx: Context, topic: str) -> str:
        messages: list[Message] = [user_message(topic)]
        for prompt in prompts:
            messages.append(user_message(prompt))
            messages += (await ctx.model("any:model", messages, instructions=instructions)).messages
        return messages[-1].text

    return Mesh("app").agent(name="talk")(talk)


def journal_of(result: LocalResult) -> Journal:
    return Journal(entry.commit for entry in result.log)


async def objects_with(instructions: str) -> MemoryObjects:
    objects = MemoryObjects()
    await objects.put(definition_of(ModelRequest(model="any:model", instructions=instructions)))
    return objects


async def test_a_prompt_is_put_together_from_what_each_step_added() -> None:
    journal = journal_of(await run_local(asks("be kind", "a", "b", "c"), "otters", models=MODEL))
    request = await prompt_of(journal, "model#3", await objects_with("be kind"))
    assert [message.text for message in request.messages] == ["otters", "a", "one", "b", "two", "c"]
    assert (request.model, request.instructions) == ("any:model", "be kind")
    assert msgspec.convert(journal.requested["model#3"].input, Recipe).added == (user_message("c"),)


async def test_a_message_of_a_long_conversation_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Message] = []

    def link(before: bytes, message: Message) -> bytes:
        hashed.append(message)
        return real(before, message)

    real = recipe._link
    monkeypatch.setattr(recipe, "_link", link)
    await run_local(asks("be kind", *map(str, range(50))), "otters", models=MODEL)
    assert len(hashed) == 101


async def test_messages_that_are_made_anew_at_each_step_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "MAX_LINKS", 10)
    conversations = Conversations("otters")
    for n in range(20):
        asked = conversations.asked(ModelRequest(model="m", messages=tuple([user_message(f"{i}") for i in range(n)])))
        assert len(conversations._links) <= 10 + 2 * n
        assert asked.recipe.messages == n


async def test_what_is_not_there_or_is_not_what_was_sent_is_said() -> None:
    journal = journal_of(await run_local(asks("be kind", "a", "b"), "otters", models=MODEL))
    with pytest.raises(InvalidInput, match=r"model#9.*model, model#2"):
        await prompt_of(journal, "model#9", await objects_with("be kind"))
    with pytest.raises(ArtifactMissing):
        await prompt_of(journal, "model#2", MemoryObjects())
    output = journal.results["model"]
    output.output["parts"][0]["text"] = "forged"  # type: ignore[union-attr]
    with pytest.raises(ArtifactDamaged, match="model#2"):
        await prompt_of(journal, "model#2", await objects_with("be kind"))


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (asks("be brief", "a", "b"), "'model' .*another definition"),
        (asks("be kind", "z", "b"), "'model' .*other messages"),
        (asks("be kind", "a", "z"), "'model#2' .*other messages"),
    ],
)
async def test_a_handler_that_asks_otherwise_than_its_log_says_is_refused(other: Agent, says: str) -> None:
    log = (await run_local(asks("be kind", "a", "b"), "otters", models=MODEL)).log
    assert (await run_local(asks("be kind", "a", "b"), replay=log)).state == "failed", "there is no model here"
    assert (await run_local(asks("be kind", "a", "b"), replay=log, models=MODEL)).performed == ()
    with pytest.raises(Nondeterministic, match=says):
        await run_local(other, replay=log, models=MODEL)


async def test_several_answers_to_one_conversation_all_go_on_from_it() -> None:
    @Mesh("app").agent
    async def vote(ctx: Context, topic: str) -> list[str]:
        first = await ctx.model("any:model", topic)
        messages = [user_message(topic), *first.messages, user_message("again")]
        more = await asyncio.gather(*(ctx.branch(name).model("any:model", messages) for name in "ab"))
        return [reply.text for reply in more]

    result = await run_local(vote, "otters " * 1000, models=MODEL)
    requested = journal_of(result).requested
    assert [requested[step].input["after"] for step in ("a/model", "b/model")] == ["model", "model"]
    again = await run_local(vote, replay=result.log, models=MODEL)
    assert (again.output, again.performed) == (["two", "two"], ())


def test_a_recorded_prompt_of_a_later_form_is_no_crash() -> None:
    now = Conversations(None).asked(ModelRequest(model="m")).recipe
    with pytest.raises(InvalidInput, match="cannot be read"):
        check_same(StepRequested(step="model", kind="model", name="model", input={"prompt": 5}), now)


@pytest.mark.parametrize(
    ("ids", "distinct"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a-2", "a-3"]),
        (["", ""], ["call-2", "call-3"]),
        (["a", "a", "a-2"], ["a", "a-3", "a-2"]),
    ],
)
def test_each_call_of_an_answer_has_an_id_of_its_own(ids: list[str], distinct: list[str]) -> None:
    parts = tuple(Part(kind="tool_call", call=one, tool="price") for one in ids)
    message = with_distinct_calls(Message(role="assistant", parts=(Part(kind="text", text="x"), *parts)))
    assert [call.call for call in message.calls] == distinct
    assert with_distinct_calls(message) is message
