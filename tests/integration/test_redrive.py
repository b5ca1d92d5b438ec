"""What a dead letter is about runs once, whoever redrives it, however often, and wherever that is cut off."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import msgspec
import pytest

from mesh import Context, Mesh
from mesh.errors import InvalidInput, MeshError
from mesh.log import dead_letters
from mesh.redrive import DeadLetters, Letter
from mesh.testing import eventually
from schemas.command import UNDELIVERABLE, Fired
from schemas.task import TaskAccepted
from tests.integration import redriving
from tests.integration.world import World


class Shop(Mesh):
    """An app that counts how often its agent ran."""

    def __init__(self) -> None:
        super().__init__("shop")
        self.ran: list[Any] = []

        @self.agent
        async def echo(ctx: Context, value: str) -> str:
            self.ran.append((value, ctx.task.metadata))
            return value


@pytest.fixture
def app() -> Shop:
    return Shop()


@pytest.fixture
def letters(world: World) -> DeadLetters:
    return DeadLetters(world.bus, world.names)


async def the_letter(letters: DeadLetters) -> Letter:
    async def found() -> Letter:
        (letter,) = (await letters.page()).letters
        return letter

    return await eventually(found, forgive=ValueError)


async def killed_task(world: World, letters: DeadLetters, **submit: Any) -> Letter:
    """The letter of a task that no worker could begin."""
    await world.router()
    executor = await world.executor(Shop())
    await executor.stop()
    task = await world.client.submit("echo", "otters", task_id="t", **submit)
    await world.reaches(task.id, "runnable")
    undeliverable = Fired(v=1, task="t", kind=UNDELIVERABLE)
    await world.bus.publish(world.names.fired("t"), msgspec.json.encode(undeliverable))
    assert (await task.result(10)).state == "failed"
    return await the_letter(letters)


async def test_a_failed_task_gets_a_successor_with_its_input_that_names_it(
    world: World, app: Shop, letters: DeadLetters
) -> None:
    letter = await killed_task(world, letters, context_id="c", owner="acme/ann", metadata={"a": 1})
    assert letter.kind == dead_letters.ATTEMPTS_EXHAUSTED
    done = await letters.redrive(letter)
    await world.executor(app)
    outcome = await world.outcome(done.task)
    assert outcome.result.output == "otters"
    accepted: TaskAccepted = outcome.entries[0].commit.events[0].data
    assert (accepted.context_id, accepted.owner) == ("c", "acme/ann")
    origin = {"reason": "attempts_exhausted", "at": letter.letter.at, "task": "t"}
    assert app.ran == [("otters", {"a": 1, "redriven": origin})]
    assert (await world.client.result("t")).state == "failed"
    with pytest.raises(MeshError, match=f"no dead letter {letter.number}"):
        await letters.get(letter.number)


async def test_who_redrives_what_another_redrives_too_makes_the_same_task(
    world: World, app: Shop, letters: DeadLetters
) -> None:
    letter = await killed_task(world, letters)
    both = await asyncio.gather(letters.redrive(letter), letters.redrive(letter))
    late = await letters.redrive(letter)
    (task,) = {done.task for done in (*both, late)}
    await world.executor(app)
    await world.outcome(task)
    await eventually(world.queue_is_empty)
    assert [value for value, _ in app.ran] == ["otters"]
    assert (await letters.page()).letters == ()


@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_redrive_that_is_killed_is_made_up_for_by_the_next_one(
    world: World, app: Shop, letters: DeadLetters, side: str
) -> None:
    letter = await killed_task(world, letters)
    arguments = (world.url, world.settings.prefix, str(letter.number), side)
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", redriving.__name__, *arguments)
    assert await process.wait() == -signal.SIGKILL
    done = await letters.redrive(await letters.get(letter.number))
    await world.executor(app)
    await world.outcome(done.task)
    await eventually(world.queue_is_empty)
    assert [value for value, _ in app.ran] == ["otters"]
    assert (await letters.page()).letters == ()


@pytest.mark.parametrize("body", [b"otters", b'{"input": "otters", "task_id": "old"}'], ids=["text", "with an id"])
async def test_a_submit_that_came_too_late_runs_once_under_an_id_of_its_own(
    world: World, app: Shop, letters: DeadLetters, body: bytes
) -> None:
    world.set(keep_s=0.000001)
    await world.bus.publish(world.names.submit("echo"), body)
    router = await world.router()
    letter = await the_letter(letters)
    await router.stop()
    world.set(keep_s=3600.0)
    await world.serve(app)
    first, second = [await letters.redrive(letter) for _ in range(2)]
    assert first == second
    assert first.task != "old"
    assert (await world.outcome(first.task)).result.output == "otters"
    await eventually(world.queue_is_empty)
    assert len(app.ran) == 1


async def test_a_second_body_under_one_id_becomes_a_task_of_its_own(
    world: World, app: Shop, letters: DeadLetters
) -> None:
    await world.serve(app)
    for value in ("one", "two"):
        task = await world.client.submit("echo", value, task_id="t")
    await world.outcome(task.id)
    done = await letters.redrive(await the_letter(letters))
    assert (await world.outcome(done.task)).result.output == "two"
    assert [value for value, _ in app.ran] == ["one", "two"]


async def test_a_submit_to_a_name_that_no_agent_can_have_keeps_its_id_and_goes_to_another_agent(
    world: World, app: Shop, letters: DeadLetters
) -> None:
    await world.serve(app)
    await world.bus.publish(world.names.submit("Echo"), b'{"input": "otters", "task_id": "t", "priority": 5}')
    letter = await the_letter(letters)
    with pytest.raises(InvalidInput, match="'Echo' is no name an agent can have"):
        await letters.redrive(letter)
    assert (await letters.redrive(letter, agent="echo")).task == "t"
    outcome = await world.outcome("t")
    assert outcome.entries[0].commit.events[0].data.unknown == {"priority": 5}
    # What its caller sends again, now to the right name, is the same task.
    await world.bus.publish(world.names.submit("echo"), b'{"input": "otters", "task_id": "t", "priority": 5}')
    await eventually(world.queue_is_empty)
    assert (await letters.page()).letters == ()
    assert len(app.ran) == 1


async def test_what_still_cannot_be_understood_comes_back_as_a_new_letter(
    world: World, app: Shop, letters: DeadLetters
) -> None:
    await world.serve(app)
    await world.bus.publish(world.names.run(app.pool), b"junk", headers={"From": "me", "Nats-Msg-Id": "1"})
    letter = await the_letter(letters)
    assert (await letters.redrive(letter)).subject == world.names.run(app.pool)

    async def another() -> Letter:
        (found,) = (await letters.page(first=letter.number + 1)).letters
        return found

    again = await eventually(another, forgive=ValueError)
    assert (again.kind, again.body) == (letter.kind, b"junk")
    assert again.letter.headers is not None
    assert again.letter.headers["From"] == "me"


async def test_a_letter_that_holds_only_the_beginning_is_not_redriven(
    world: World, app: Shop, letters: DeadLetters
) -> None:
    await world.serve(app)
    await world.bus.publish(world.names.run(app.pool), b"\xff" * 900_000)
    letter = await the_letter(letters)
    assert letter.cut
    with pytest.raises(InvalidInput, match="of the 900000 bytes"):
        await letters.redrive(letter)
    assert await letters.get(letter.number) == letter


async def test_pages_hold_as_many_letters_as_are_asked_for_and_name_the_next_one(
    world: World, letters: DeadLetters
) -> None:
    for number in range(7):
        await world.bus.publish(world.names.dead("odd" if number % 2 else "even", "-"), b"no letter")
    page = await letters.page(limit=3)
    assert ([letter.number for letter in page.letters], page.next) == ([1, 2, 3], 4)
    rest = await letters.page(first=4, limit=4)
    assert ([letter.number for letter in rest.letters], rest.next) == ([4, 5, 6, 7], None)
    odd = await letters.page(first=3, kind="odd")
    assert [letter.number for letter in odd.letters] == [4, 6]
    assert "cannot be read" in odd.letters[0].letter.error.message
    with pytest.raises(InvalidInput):
        await letters.redrive(odd.letters[0])
    assert await letters.remove(odd.letters[0])
    assert not await letters.remove(odd.letters[0])
    assert (await letters.page(first=8)).letters == ()
