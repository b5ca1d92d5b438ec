"""Waiting for something to become so."""

from __future__ import annotations

import pytest

from mesh.testing import FakeClock, eventually


async def test_it_gives_what_the_check_gave_at_last() -> None:
    answers = iter([0, "", 3])
    assert await eventually(lambda: next(answers)) == 3


async def test_a_check_may_assert_and_may_be_async() -> None:
    left = [1, 2]

    async def none_left() -> None:
        assert not left, left.pop()

    await eventually(none_left)


async def test_the_error_shows_the_last_failure() -> None:
    def never() -> None:
        raise AssertionError("the light is red")

    with pytest.raises(AssertionError, match=r"still not so after 0.01 s: the light is red"):
        await eventually(never, 0.01)


async def test_a_check_that_is_never_true_says_what_it_gave() -> None:
    with pytest.raises(AssertionError, match="the check gave 0"):
        await eventually(lambda: 0, 0.01)


async def test_other_errors_go_through_unless_forgiven() -> None:
    errors = [KeyError("x"), None]

    def check() -> bool:
        error = errors.pop(0)
        if error:
            raise error
        return True

    with pytest.raises(KeyError):
        await eventually(check)
    errors = [KeyError("x"), None]
    assert await eventually(check, forgive=KeyError)


def test_a_fake_clock_moves_only_by_hand() -> None:
    clock = FakeClock()
    before = clock.now()
    clock.advance(2.5)
    assert clock.now() == before + 2.5
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)
