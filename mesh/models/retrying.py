"""Our retries of model requests: visible, bounded, with back-off and the provider's own wish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from random import Random
from typing import Final

from msgspec import Struct

from mesh.errors import ModelUnavailable
from mesh.models.api import Model, ModelEvent, ModelRequest, ModelRetry

_MAX_DOUBLINGS: Final = 30


class Retries(Struct, frozen=True, kw_only=True):
    """How often and how patiently a request is made again.

    A provider that asks for a longer wait than `max_retry_after_s` has refused, as far as a task is concerned.
    """

    max_attempts: int = 5
    first_wait_s: float = 0.5
    max_wait_s: float = 20.0
    max_retry_after_s: float = 120.0


class Retrying:
    """A model that asks another one again when it is unavailable.

    Each retry is announced by a `ModelRetry` before the wait; deltas after it belong to its attempt and begin anew.
    """

    def __init__(
        self,
        model: Model,
        retries: Retries = Retries(),  # noqa: B008 - it is frozen
        *,
        random: Random,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._model = model
        self._retries = retries
        self._random = random
        self._pause = pause

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """As the model does, after as many tries as it takes; raises what the last one raised."""
        attempt = 1
        while True:
            try:
                async with aclosing(self._model.stream(request)) as events:
                    async for event in events:
                        yield event
                return
            except ModelUnavailable as error:
                wait_s = next_wait_s(self._retries, attempt, error.retry_after_s, self._random.random())
                if wait_s is None:
                    raise _given_up(error, attempt) from error
                reason = error.message
            attempt += 1
            yield ModelRetry(attempt, reason, wait_s)
            await self._pause(wait_s)


def next_wait_s(retries: Retries, attempt: int, retry_after_s: float | None, jitter: float) -> float | None:
    """How long to wait after this attempt failed; None if it was the last. `jitter` is 0 to 1.

    Half of the doubling back-off is fixed and half is chance, so that callers who failed together come back apart. The
    provider's wish is a least wait; the chance comes on top of it.
    """
    if attempt >= retries.max_attempts or (retry_after_s or 0.0) > retries.max_retry_after_s:
        return None
    back_off_s = min(retries.max_wait_s, retries.first_wait_s * 2.0 ** min(attempt - 1, _MAX_DOUBLINGS)) / 2
    return max(back_off_s, retry_after_s or 0.0) + back_off_s * jitter


def _given_up(error: ModelUnavailable, attempts: int) -> ModelUnavailable:
    if attempts == 1 and error.retry_after_s is None:
        return error
    asked = f", and the provider asks to wait {error.retry_after_s:g} s" if error.retry_after_s else ""
    times = "attempt" if attempts == 1 else "attempts"
    return ModelUnavailable(
        f"{error.message}; given up after {attempts} {times}{asked}", hint=error.hint, retry_after_s=error.retry_after_s
    )
