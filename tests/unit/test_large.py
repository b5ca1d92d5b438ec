"""Large values leave a message and come back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.errors import ArtifactMissing, InvalidInput, TooLarge
from mesh.log.large import restore, spill, spill_commit
from mesh.testing.objects import MemoryObjects
from schemas import envelope
from schemas.command import Submit
from schemas.envelope import MAX_COMMIT_BYTES, Commit, Head, event
from schemas.error import Error
from schemas.object import LARGE_BYTES, MAX_VALUE_BYTES, ObjectRef, digest_of
from schemas.step import EventAdded, StepCompleted, StepFailed, StepRequested
from schemas.task import TaskAccepted, TaskCompleted

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)  # fmt: skip
LONG = "x" * LARGE_BYTES


def commit_of(*data: msgspec.Struct) -> Commit:
    return Commit(v=1, task="t", n=1, nonce="0", by="e/w", at="", head=Head(), events=tuple(map(event, data)))


def values(value: Any) -> list[msgspec.Struct]:
    return [
        TaskAccepted(agent="a", pool="p", digest="d", sequence=1, at="", input=value),
        TaskCompleted(output=value),
        StepRequested(step="s", kind="tool", name="s", input=value),
        StepCompleted(step="s", output=value),
        EventAdded(name="e", data=value),
        Submit(input=value),
    ]


@settings(max_examples=30)
@given(plain, st.sampled_from(["small", "large"]))
async def test_any_json_value_comes_back_as_it_was(value: Any, size: str) -> None:
    objects = MemoryObjects()
    value = [value, LONG] if size == "large" else value
    for data in values(value):
        spilled = msgspec.json.decode(msgspec.json.encode(await spill(data, objects)), type=type(data))
        assert await restore(spilled, objects) == data
        assert len(msgspec.json.encode(spilled)) < LARGE_BYTES
    assert len(objects.bodies) == (size == "large")


async def test_a_value_at_the_bound_stays_and_one_byte_more_moves() -> None:
    objects = MemoryObjects()
    at_bound = TaskCompleted(output="x" * (LARGE_BYTES - 2))
    assert await spill(at_bound, objects) is at_bound
    moved = await spill(TaskCompleted(output="x" * (LARGE_BYTES - 1)), objects)
    assert moved.output is None
    assert moved.output_ref is not None
    assert moved.output_ref.size == LARGE_BYTES + 1


async def test_a_commit_loses_its_large_values_and_keeps_the_order_of_its_events() -> None:
    objects = MemoryObjects()
    commit = commit_of(
        EventAdded(name="a", data=LONG), StepFailed(step="f", error=Error(code="handler_error", message=LONG)),
        StepCompleted(step="s", output=1), TaskCompleted(output=[LONG]),
    )  # fmt: skip
    spilled = await spill_commit(commit, len(envelope.encode(commit)), objects)
    first, second, third, last = [one.data for one in spilled.events]
    assert (first.data, first.data_ref.size) == (None, LARGE_BYTES + 2)
    assert (second, third) == (commit.events[1].data, commit.events[2].data)
    assert (last.output, last.output_ref.size) == (None, LARGE_BYTES + 4)
    assert await restore(last, objects) == commit.events[3].data


@pytest.mark.parametrize("count", [1, 2, 4, 20])
async def test_a_commit_of_many_values_moves_the_largest_until_it_fits(count: int) -> None:
    objects = MemoryObjects()
    commit = commit_of(*(EventAdded(name="e", data=f"{n}" + "x" * (200_000 + n)) for n in range(count)))
    spilled = await spill_commit(commit, len(envelope.encode(commit)), objects)
    assert len(envelope.encode(spilled)) <= MAX_COMMIT_BYTES
    moved = [one.data.data_ref is not None for one in spilled.events]
    assert moved == sorted(moved)
    assert sum(moved) == max(0, count - 3)


async def test_the_same_value_is_kept_once_under_the_digest_of_its_json() -> None:
    objects = MemoryObjects()
    request = await spill(StepRequested(step="s", kind="tool", name="s", input={"a": LONG}), objects)
    result = await spill(StepCompleted(step="s", output={"a": LONG}), objects)
    assert request.input_ref == result.output_ref
    assert list(objects.bodies) == [digest_of(msgspec.json.encode({"a": LONG}))]


async def test_what_is_not_there_is_missing() -> None:
    ref = ObjectRef(digest=digest_of(b"1"), size=1)
    with pytest.raises(ArtifactMissing):
        await restore(TaskCompleted(output_ref=ref), MemoryObjects())


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
async def test_what_is_no_json_says_so(body: bytes) -> None:
    objects = MemoryObjects()
    ref = await objects.put(body)
    with pytest.raises(InvalidInput, match="output"):
        await restore(TaskCompleted(output_ref=ref), objects)


async def test_a_reference_to_something_huge_is_not_followed() -> None:
    objects = MemoryObjects()
    ref = await objects.put(bytes(MAX_VALUE_BYTES + 1))
    with pytest.raises(TooLarge):
        await restore(TaskCompleted(output_ref=ref), objects)
