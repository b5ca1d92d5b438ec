"""What a run command comes to, by the head of its task's log."""

from __future__ import annotations

import pytest

from mesh.log.claim import Decision, decide
from schemas.envelope import Head

SEQ, OTHER = 7, 8


@pytest.mark.parametrize(
    ("head", "decision"),
    [
        (Head(), Decision.STALE),
        (Head(phase="ended", wake=3), Decision.ENDED),
        (Head(phase="ended", wake=0), Decision.ENDED),
        (Head(phase="suspended", wake=3), Decision.SPENT),
        (Head(phase="suspended", wake=0), Decision.SPENT),
        (Head(phase="runnable", wake=4), Decision.SPENT),
        (Head(phase="running", wake=4, cover=OTHER), Decision.SPENT),
        (Head(phase="runnable", wake=2), Decision.STALE),
        (Head(phase="running", wake=2, cover=SEQ), Decision.STALE),
        (Head(phase="runnable", wake=3), Decision.CLAIM),
        (Head(phase="runnable", wake=3, starts=2), Decision.CLAIM),
        (Head(phase="runnable", wake=3, starts=3), Decision.EXHAUSTED),
        (Head(phase="running", wake=3, cover=OTHER), Decision.SURPLUS),
        (Head(phase="running", wake=3, cover=OTHER, starts=9), Decision.SURPLUS),
        (Head(phase="running", wake=3, cover=SEQ, delivery=1, starts=1), Decision.CLAIM),
        (Head(phase="running", wake=3, cover=SEQ, delivery=1, starts=3), Decision.EXHAUSTED),
        (Head(phase="running", wake=3, cover=SEQ, delivery=3), Decision.LATE),
        (Head(phase="running", wake=3, cover=SEQ, delivery=2), Decision.CLAIM),
    ],
)
def test_a_command_for_wake_3_in_its_second_delivery_comes_to(head: Head, decision: Decision) -> None:
    assert decide(head, wake=3, seq=SEQ, delivered=2, max_attempts=3) is decision
