"""What cannot be understood becomes a dead letter that holds it, and circles not."""

from __future__ import annotations

import base64

import msgspec
import pytest

from mesh import Context, Mesh
from mesh.log import dead_letters
from mesh.testing import eventually
from schemas.command import DeadLetter
from tests.integration.world import World


@pytest.fixture
def app() -> Mesh:
    app = Mesh("shop")

    @app.agent
    async def echo(ctx: Context, value: str) -> str:
        return value

    return app


def original(letter: DeadLetter) -> bytes:
    return base64.b64decode(letter.body) if letter.encoding == "base64" else letter.body.encode()


JUNK = {
    "long-binary": b"\xff\x00" * 300_000,
    "long-text": b'"' * 600_000,
    "short-text": b"not json",
    "no-utf-8-in-a-string": b'{"v": 1, "task": "\xff"}',
    "no-task": msgspec.json.encode(
        {"v": 1, "task": "a b", "root": "a", "first": 1, "last": 1, "n": 0, "head": {}, "wake": 0}
    ),
}


@pytest.mark.parametrize("body", JUNK.values(), ids=JUNK)
async def test_junk_for_a_pool_is_a_dead_letter_with_its_bytes_and_circles_not(
    world: World, app: Mesh, body: bytes
) -> None:
    await world.serve(app)
    await world.bus.publish(world.names.run(app.pool), body, headers={"From": "somebody"})
    (letter,) = await eventually(lambda: world.dead(dead_letters.INVALID_RUN))
    assert original(letter) == body
    assert (letter.size, letter.subject) == (len(body), world.names.run(app.pool))
    assert letter.headers == {"From": "somebody"}
    await eventually(world.queue_is_empty)
    task = await world.client.submit("echo", "still here")
    assert (await world.outcome(task.id)).result.output == "still here"


async def test_a_letter_with_more_headers_than_it_can_hold_is_sent_with_the_first_of_them(
    world: World, app: Mesh
) -> None:
    await world.serve(app)
    headers = {"First": "kept", **{f"X-{n}": '"' * 1_000 for n in range(50)}}
    await world.bus.publish(world.names.run(app.pool), b"\xff" * 900_000, headers=headers)
    (letter,) = await eventually(lambda: world.dead(dead_letters.INVALID_RUN))
    assert letter.headers is not None
    assert 1 < len(letter.headers) < len(headers)
    assert letter.size == 900_000
    await eventually(world.queue_is_empty)


async def test_letters_of_one_sequence_in_two_streams_are_both_kept(world: World, app: Mesh) -> None:
    await world.serve(app)
    run = await world.bus.publish(world.names.run(app.pool), b"junk")
    signal = await world.bus.publish(world.names.signal("t"), b"junk")
    assert run == signal
    await eventually(lambda: world.dead(dead_letters.INVALID_RUN))
    await eventually(lambda: world.dead(dead_letters.INVALID_SIGNAL))


@pytest.mark.parametrize("kind", ["signal", "fired"])
async def test_a_string_that_is_not_utf_8_is_a_dead_letter_of_the_router(world: World, kind: str) -> None:
    await world.router()
    body = b'{"v": 1, "task": "t", "id": "\xff", "kind": "\xff"}'
    await world.bus.publish(getattr(world.names, kind)("t"), body)
    (letter,) = await eventually(lambda: world.dead(f"invalid_{kind}"))
    assert original(letter) == body
    await eventually(world.queue_is_empty)
