"""What a provider can do wrong, and what our code makes of it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from random import Random
from typing import Any

import pytest

from mesh.errors import ModelRejected, ModelUnavailable
from mesh.models import Endpoint, ModelAnswer, ModelEvent, ModelRetry, Retrying
from mesh.testing.waiting import eventually
from schemas import error as codes
from tests.models.asking import Asking, deltas_of, joined, message_of, until_error
from tests.models.server import Answer, ProviderServer, breaks, refuses, silent, stalls, streams
from tests.models.wires import Text


def error_body(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": code, "code": code, "param": None}}


def whole(asking: Asking, text: str = "fine") -> Answer:
    return streams(asking.wire.parts(Text([text])) + asking.wire.end())


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (401, "invalid_api_key", "authentication"),
        (403, "forbidden", "authentication"),
        (404, "model_not_found", "not_found"),
        (400, "context_length_exceeded", "context_window"),
        (400, "invalid_request_error", "request"),
        (402, "billing", "quota"),
        (429, "insufficient_quota", "quota"),
    ],
)
async def test_a_refusal_is_for_good_and_says_why(asking: Asking, status: int, code: str, reason: str) -> None:
    asking.server.answers.append(refuses(status, error_body("that will not do", code)))
    with pytest.raises(ModelRejected) as refused:
        await asking.events()
    assert refused.value.reason == reason
    assert "that will not do" in refused.value.message
    error = refused.value.to_error()
    assert (error.code, error.retryable, error.details) == (codes.MODEL_REJECTED, False, {"reason": reason})
    assert len(asking.server.exchanges) == 1


async def test_a_refused_key_names_its_variable(asking: Asking) -> None:
    asking.server.answers.append(refuses(401, error_body("Incorrect API key", "invalid_api_key")))
    with pytest.raises(ModelRejected, match="OPENAI_API_KEY"):
        await asking.events()


@pytest.mark.parametrize(
    ("answer", "wait_s"),
    [
        (refuses(429, error_body("slow down", "rate_limit_exceeded"), {"retry-after": "2"}), 2.0),
        (refuses(429, error_body("slow down", "rate_limit_exceeded")), None),
        (refuses(500, error_body("oops", "server_error")), None),
        (refuses(502, "<html>bad gateway</html>"), None),
        (refuses(503, error_body("overloaded", "overloaded"), {"retry-after": "1"}), 1.0),
        (refuses(408, error_body("time-out", "timeout")), None),
        (refuses(400, error_body("again", "odd"), {"x-should-retry": "true"}), None),
        (breaks([]), None),
        (streams([]), None),
    ],
)
async def test_trouble_may_be_tried_again_by_us_and_by_nobody_else(
    asking: Asking, answer: Answer, wait_s: float | None
) -> None:
    asking.server.answers.append(answer)
    with pytest.raises(ModelUnavailable) as failed:
        await asking.events(asking.request(settings={"max_retries": 5}))
    assert failed.value.retry_after_s == wait_s
    assert failed.value.to_error().retryable
    assert len(asking.server.exchanges) == 1, "the SDK must not retry in silence"


@pytest.mark.parametrize("ends", [streams, breaks])
async def test_a_cut_stream_is_never_an_answer(asking: Asking, ends: Any) -> None:
    asking.server.answers.append(ends(asking.wire.parts(Text(["half of ", "the"]))))
    events, error = await until_error(asking.model, asking.request())
    assert isinstance(error, ModelUnavailable)
    assert not any(isinstance(event, ModelAnswer) for event in events)
    assert "half of the".startswith(joined(events, 0))


async def test_a_server_that_never_gives_a_reason_is_taken_at_its_word_if_told_so(asking: Asking) -> None:
    if asking.wire.prefix == "openai":
        pytest.skip("the Responses API has an event for the end, which no server leaves out")
    asking.server.answers.append(streams(asking.wire.parts(Text(["all of it"]))))
    endpoint = Endpoint(base_url=asking.server.url, needs_finish_reason=False)
    assert (await asking.message(asking.request(endpoint=endpoint))).text == "all of it"


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        ("server_error", ModelUnavailable),
        ("rate_limit_exceeded", ModelUnavailable),
        ("insufficient_quota", ModelRejected),
        ("context_length_exceeded", ModelRejected),
    ],
)
async def test_an_error_inside_the_stream_is_the_same_error(asking: Asking, code: str, raised: type[Exception]) -> None:
    asking.server.answers.append(streams(asking.wire.parts(Text(["well"])) + asking.wire.error(code, "it broke")))
    with pytest.raises(raised, match="it broke"):
        await asking.events()


@pytest.mark.parametrize("garbage", ["data: {not json\n\n", "data: []\n\n"])
async def test_garbage_in_the_stream_is_an_error_of_ours(asking: Asking, garbage: str) -> None:
    asking.server.answers.append(streams([*asking.wire.parts(Text(["well"])), garbage, *asking.wire.end()]))
    with pytest.raises(ModelUnavailable):
        await asking.events()


async def test_a_stream_that_stalls_is_given_up(asking: Asking) -> None:
    asking.server.answers.append(stalls(asking.wire.parts(Text(["well…"]))))
    with pytest.raises(ModelUnavailable, match="silent"):
        await asking.events(asking.request(settings={"timeout": 0.1}))
    await asyncio.wait_for(asking.server.exchanges[0].closed.wait(), 10)


async def test_a_request_that_takes_too_long_as_a_whole_is_given_up(asking: Asking) -> None:
    asking.server.answers.append(silent())
    with pytest.raises(ModelUnavailable):
        await asking.events(asking.request(settings={"request_timeout": 0.1}))


async def test_a_server_that_is_not_there_is_unavailable(asking: Asking) -> None:
    async with ProviderServer() as gone:
        endpoint = Endpoint(base_url=gone.url)
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        await asking.events(asking.request(endpoint=endpoint))


@pytest.mark.parametrize("answering", [True, False], ids=["while it streams", "before it answers"])
async def test_cancelling_the_reader_closes_the_connection(asking: Asking, answering: bool) -> None:
    asking.server.answers.append(stalls(asking.wire.parts(Text(["well…"]))) if answering else silent())
    seen: list[ModelEvent] = []

    async def read() -> None:
        async with aclosing(asking.model.stream(asking.request())) as events:
            async for event in events:
                seen.append(event)

    reader = asyncio.create_task(read())
    await eventually(lambda: seen if answering else asking.server.exchanges)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await asyncio.wait_for(asking.server.exchanges[0].closed.wait(), 10)


async def test_a_reader_that_leaves_early_closes_the_connection(asking: Asking) -> None:
    asking.server.answers.append(stalls(asking.wire.parts(Text(["well…"]))))
    async with aclosing(asking.model.stream(asking.request())) as events:
        async for _ in events:
            break
    await asyncio.wait_for(asking.server.exchanges[0].closed.wait(), 10)


async def test_a_request_after_a_cancelled_one_is_answered(asking: Asking) -> None:
    asking.server.answers += [stalls(asking.wire.parts(Text(["well…"]))), whole(asking)]
    async with aclosing(asking.model.stream(asking.request())) as events:
        await anext(events)
    assert (await asking.message()).text == "fine"


async def test_retries_bring_an_answer_after_errors_and_a_cut(asking: Asking) -> None:
    waits: list[float] = []

    async def pause(wait_s: float) -> None:
        waits.append(wait_s)

    asking.server.answers += [
        refuses(429, error_body("slow down", "rate_limit_exceeded"), {"retry-after": "2"}),
        refuses(500, error_body("oops", "server_error")),
        streams(asking.wire.parts(Text(["half"]))),
        whole(asking, "the whole"),
    ]
    asking.model = Retrying(asking.model, random=Random(1), pause=pause)
    events = await asking.events()
    retries = [event for event in events if isinstance(event, ModelRetry)]
    assert [retry.attempt for retry in retries] == [2, 3, 4]
    assert [retry.wait_s for retry in retries] == waits
    assert waits[0] >= 2.0
    assert message_of(events).text == "the whole"
    after = events[events.index(retries[-1]) :]
    assert joined(after, 0) == "the whole"
    assert [delta.text for delta in deltas_of(events)] == ["half", "the whole"]


async def test_a_refusal_is_not_retried(asking: Asking) -> None:
    asking.server.answers.append(refuses(401, error_body("no", "invalid_api_key")))
    asking.model = Retrying(asking.model, random=Random(1))
    with pytest.raises(ModelRejected):
        await asking.events()
    assert len(asking.server.exchanges) == 1
