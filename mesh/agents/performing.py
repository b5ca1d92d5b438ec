"""Which step is being performed here: for whoever makes its effect, in the same task, thread or below."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from msgspec import Struct


class Performing(Struct, frozen=True, kw_only=True):
    """A step under way."""

    task: str
    step: str
    idempotent: bool

    @property
    def idempotency_key(self) -> str:
        """The same at every repeat of this step; for targets that take one."""
        return f"{self.task}:{self.step}"


_current: ContextVar[Performing | None] = ContextVar("mesh_performing", default=None)


def current_step() -> Performing | None:
    """The step that this code is a part of, or None outside of one."""
    return _current.get()


@contextmanager
def performing(step: Performing) -> Iterator[None]:
    """Makes it the current step of the block."""
    token = _current.set(step)
    try:
        yield
    finally:
        _current.reset(token)
