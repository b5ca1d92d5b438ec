from __future__ import annotations

from itertools import pairwise

from mesh.registry import FIRST_STRANGE_S, LAST_STRANGE_S, strange_delay_s


def test_what_another_version_must_take_waits_longer_each_time_from_the_first_delay_to_the_last() -> None:
    delays = [strange_delay_s(delivered) for delivered in range(1, 50)]
    assert (delays[0], delays[-1]) == (FIRST_STRANGE_S, LAST_STRANGE_S)
    assert all(before <= after for before, after in pairwise(delays))
