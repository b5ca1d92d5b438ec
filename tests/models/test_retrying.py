"""Our retries: visible, bounded, patient as the provider asks."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import ModelRejected, ModelUnavailable
from mesh.models import ModelAnswer, ModelEvent, ModelRequest, ModelRetry, Reply, Retries, Retrying, ScriptedModel
from mesh.models.retrying import next_wait_s
from mesh.models.scripted import one_by_one
from tests.models.asking import HELLO, joined, message_of

REQUEST = ModelRequest(model="scripted:test", messages=HELLO)
DOWN = ModelUnavailable("down", hint="wait")


class Waiting:
    """Retries over a script, with the waits written down instead of waited."""

    def __init__(self, *replies: Reply, retries: Retries = Retries()) -> None:  # noqa: B008
        self.waits: list[float] = []
        self.events: list[ModelEvent] = []
        self._model = Retrying(ScriptedModel(one_by_one(*replies)), retries, random=Random(7), pause=self._pause)

    async def _pause(self, wait_s: float) -> None:
        assert isinstance(self.events[-1], ModelRetry), "a wait is announced before it begins"
        self.waits.append(wait_s)

    async def run(self) -> list[ModelEvent]:
        async for event in self._model.stream(REQUEST):
            self.events.append(event)
        return self.events


async def test_an_answer_at_once_is_passed_through() -> None:
    waiting = Waiting(Reply(text="fine"))
    assert message_of(await waiting.run()).text == "fine"
    assert waiting.waits == []


async def test_text_of_a_failed_attempt_is_followed_by_a_new_attempt_number() -> None:
    waiting = Waiting(Reply(text="half", error=DOWN), Reply(error=DOWN), Reply(text="whole"))
    events = await waiting.run()
    kinds = [type(event).__name__ for event in events]
    assert kinds == ["ModelDelta", "ModelRetry", "ModelRetry", "ModelDelta", "ModelAnswer"]
    retries = [event for event in events if isinstance(event, ModelRetry)]
    assert [(retry.attempt, retry.reason) for retry in retries] == [(2, "down"), (3, "down")]
    assert [retry.wait_s for retry in retries] == waiting.waits
    assert joined(events[events.index(retries[-1]) :], 0) == "whole"


async def test_it_gives_up_after_the_last_attempt_with_the_last_error() -> None:
    waiting = Waiting(*[Reply(error=DOWN)] * 9, retries=Retries(max_attempts=3))
    with pytest.raises(ModelUnavailable, match="down; given up after 3 attempts") as given_up:
        await waiting.run()
    assert given_up.value.hint == "wait"
    assert given_up.value.to_error().retryable
    assert len(waiting.waits) == 2


async def test_a_wish_beyond_patience_is_a_refusal_for_now() -> None:
    waiting = Waiting(Reply(error=ModelUnavailable("busy", retry_after_s=3600)), Reply(text="late"))
    with pytest.raises(ModelUnavailable, match="asks to wait 3600 s") as given_up:
        await waiting.run()
    assert given_up.value.retry_after_s == 3600
    assert waiting.waits == []


async def test_what_is_refused_is_not_tried_again() -> None:
    waiting = Waiting(Reply(error=ModelRejected("no")), Reply(text="fine"))
    with pytest.raises(ModelRejected, match="no"):
        await waiting.run()
    assert waiting.events == []


async def test_the_answer_is_the_last_event() -> None:
    assert isinstance((await Waiting(Reply(error=DOWN), Reply(text="a")).run())[-1], ModelAnswer)


attempts = st.integers(1, 10_000)
jitters = st.floats(0, 1)
wishes = st.none() | st.floats(0, 120)


@given(attempts, wishes, jitters)
def test_a_wait_is_never_shorter_than_the_wish_and_is_bounded(attempt: int, wish: float | None, jitter: float) -> None:
    retries = Retries(max_attempts=20_000)
    wait_s = next_wait_s(retries, attempt, wish, jitter)
    assert wait_s is not None
    assert (wish or 0) <= wait_s
    assert 0 < wait_s <= max(retries.max_wait_s, (wish or 0) + retries.max_wait_s / 2)


@given(attempts, jitters)
def test_waits_grow_and_chance_never_undoes_it(attempt: int, jitter: float) -> None:
    retries = Retries(max_attempts=20_000)
    earliest = next_wait_s(retries, attempt + 1, None, 0.0)
    latest = next_wait_s(retries, attempt, None, jitter)
    assert earliest is not None
    assert latest is not None
    assert latest <= earliest or earliest == retries.max_wait_s / 2
