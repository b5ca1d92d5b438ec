"""Ids are valid subject tokens, and generated ones sort by time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.subjects import Subjects, root_of
from schemas.ids import derived_id, is_name, is_root_id, is_task_id, new_id, ulid

milliseconds = st.integers(min_value=0, max_value=2**48 - 1)


@given(milliseconds, st.text(max_size=40), st.integers(min_value=1, max_value=2**63))
def test_a_derived_id_is_valid_and_the_same_each_time(at: int, created: str, sequence: int) -> None:
    id = derived_id(at, created, sequence)
    assert is_root_id(id)
    assert id == id.lower()
    assert id == derived_id(at, created, sequence)


@given(milliseconds, st.integers(min_value=1, max_value=2**40))
def test_a_stream_made_anew_derives_other_ids(at: int, sequence: int) -> None:
    assert derived_id(at, "2026-01-01T00:00:00Z", sequence) != derived_id(at, "2026-01-02T00:00:00Z", sequence)


@given(milliseconds, milliseconds, st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_ids_sort_by_the_time_they_were_made(one: int, other: int, a: bytes, b: bytes) -> None:
    first, second = ulid(one, a), ulid(other, b)
    if one != other:
        assert (first < second) == (one < other)
    assert len(first) == 26


def test_fresh_ids_differ_within_one_millisecond() -> None:
    assert len({new_id(1) for _ in range(1000)}) == 1000


@given(st.text(max_size=70))
def test_whatever_is_a_task_id_is_one_subject_token(text: str) -> None:
    if is_task_id(text):
        assert not set(text) & set(".*> \t\r\n\x00")
        assert Subjects().task(text) == f"mesh.task.{root_of(text)}.{text}"


def test_a_child_has_its_root_before_the_two_dashes() -> None:
    child = "abc--" + "a2" * 6 + "b"
    assert is_task_id(child)
    assert not is_root_id(child)
    assert root_of(child) == "abc"


def test_names_are_lower_case_tokens_that_do_not_begin_with_a_dash() -> None:
    assert all(map(is_name, ("a", "0", "a-b_c", "x" * 63)))
    assert not any(map(is_name, ("", "A", "-a", "_a", "a.b", "a b", "x" * 64, "a\n", "é")))


def test_an_id_does_not_end_in_a_line_break() -> None:
    assert not is_task_id("abc\n")
    assert not is_root_id("abc-")
