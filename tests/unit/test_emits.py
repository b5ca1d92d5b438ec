"""What is emitted reaches the log once, in order, with its offsets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.agents.emits import Emits
from schemas.step import EventAdded, StepProgress, TextAdded


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.005
        return self.now


@given(st.lists(st.text() | st.none() | st.integers(), max_size=30), st.integers(min_value=0, max_value=1000))
def test_text_and_events_come_out_in_order_wherever_commits_fall(script: list[str | int | None], start: int) -> None:
    emits = Emits(1, start, Ticks())
    taken: list[object] = []
    expected: list[object] = []
    for item in script:
        if item is None:
            taken.extend(one.data for one in emits.take())
        elif isinstance(item, int):
            emits.add_event(EventAdded(name=str(item)))
            expected.append(str(item))
        else:
            emits.add_text(item)
            expected.extend(item)
    taken.extend(one.data for one in emits.take())
    told: list[object] = []
    offset = start
    for data in taken:
        if isinstance(data, TextAdded):
            assert data.offset == offset
            assert sum(length for _, length in data.chunks) == len(data.text)
            offset += len(data.text)
            told.extend(data.text)
        else:
            assert isinstance(data, EventAdded)
            told.append(data.name)
    assert told == expected
    assert emits.offset == offset
    assert not emits


def test_chunks_hold_the_time_since_the_first_of_them() -> None:
    emits = Emits(1, 0, Ticks())
    for text in ("ab", "c", "def"):
        emits.add_text(text)
    (added,) = (one.data for one in emits.take())
    assert [length for _, length in added.chunks] == [2, 1, 3]
    assert [at for at, _ in added.chunks] == sorted(at for at, _ in added.chunks)
    assert added.chunks[0][0] == 0


def test_only_the_newest_progress_is_kept() -> None:
    emits = Emits(1, 0, Ticks())
    for percent in (0.1, 0.5):
        emits.set_progress(StepProgress(fraction=percent))
    assert [one.data.fraction for one in emits.take()] == [0.5]


def test_an_emit_grows_the_size_and_a_commit_clears_it() -> None:
    emits = Emits(1, 0, Ticks())
    emits.add_text("x" * 100)
    emits.add_event(EventAdded(name="n", data="y" * 100))
    assert emits.size >= 200
    emits.take()
    assert emits.size == 0
