"""The time of each piece of a text, in bounded space."""

from __future__ import annotations

from itertools import count

from mesh.agents.pace import MAX_CHUNKS, Pace


def test_pieces_that_come_close_together_count_as_one() -> None:
    times = iter([0.0, 0.0, 0.005, 0.019, 0.040, 0.100])
    taken = Pace(lambda: next(times))
    for length in (3, 1, 2, 4, 5):
        taken.add(length)
    assert taken.chunks == ((0, 6), (40, 4), (100, 5))


def test_however_many_pieces_there_are_the_lengths_add_up_and_the_chunks_are_few() -> None:
    times = count(0.0, 0.05)
    taken = Pace(lambda: next(times))
    for _ in range(20_000):
        taken.add(1)
    chunks = taken.chunks
    assert MAX_CHUNKS / 4 < len(chunks) <= MAX_CHUNKS
    assert sum(length for _, length in chunks) == taken.length == 20_000
    assert [at for at, _ in chunks] == sorted(at for at, _ in chunks)
