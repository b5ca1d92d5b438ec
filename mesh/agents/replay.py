"""How far a handler that is called again has come through what its log holds; its branches share it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mesh.errors import InvalidInput, Nondeterministic
from mesh.log.journal import Journal
from mesh.log.steps import Step
from schemas.task import Usage

MAX_STEP_NAME: Final = 128
REPLAY_GRACE_S: Final = 1.0
SHOWN_STEPS: Final = 20


class Replay:
    """The keys of steps, and whether every recorded one was asked for again.

    `skip_text` characters and `skip_events` events are in the log already. `usages` are those of the steps so far.
    """

    def __init__(self, journal: Journal) -> None:
        self.skip_text = len(journal.text)
        self.skip_events = journal.events
        self.usages: list[Usage | None] = []
        self._requested = journal.requested
        self._occurrences: dict[tuple[str, str], int] = {}
        self._seen: list[str] = []
        self._unasked = set(journal.requested)
        self._caught_up = asyncio.Event()
        self._handing = 0
        self._look()

    @property
    def caught_up(self) -> bool:
        """Whether what comes now is new."""
        return self._caught_up.is_set()

    async def until_caught_up(self) -> None:
        await self._caught_up.wait()

    def key(self, name: str, prefix: str = "") -> str:
        """The key of the next step of this name, in the branch of this prefix; raises InvalidInput."""
        return self._numbered(name, prefix, "a step")

    def branch(self, name: str, prefix: str = "") -> str:
        """The prefix of the next branch of this name, in the branch of that prefix; raises InvalidInput."""
        return self._numbered(name, prefix, "a branch") + "/"

    def _numbered(self, name: str, prefix: str, what: str) -> str:
        if not name or len(prefix) + len(name) > MAX_STEP_NAME or "\x00" in name:
            raise InvalidInput(f"the name of {what}, with those it is in, is 1 to {MAX_STEP_NAME} characters of text")
        full = prefix + name.replace("#", "##")  # so that no name looks like a second occurrence of another
        count = self._occurrences[what, full] = self._occurrences.get((what, full), 0) + 1
        return full if count == 1 else f"{full}#{count}"

    async def check(self, wanted: Step) -> None:
        """A new step may come only when every recorded one has been asked for again.

        Branches that run side by side ask in any order, so the others get a moment to catch up.

        Raises: Nondeterministic.
        """
        self._seen.append(wanted.key)
        self._unasked.discard(wanted.key)
        recorded = self._requested.get(wanted.key)
        if recorded is not None:
            self._look()
            if (recorded.kind, recorded.name) != (wanted.kind, wanted.name):
                raise self._nondeterministic(wanted.key)
        while recorded is None and not self.caught_up:
            try:
                async with asyncio.timeout(REPLAY_GRACE_S):
                    await self._caught_up.wait()
            except TimeoutError:
                if not self._handing:
                    raise self._nondeterministic(wanted.key) from None

    @contextmanager
    def handing(self) -> Iterator[None]:
        """While a recorded result is fetched, its branch cannot ask for what comes next."""
        self._handing += 1
        try:
            yield
        finally:
            self._handing -= 1

    def check_complete(self) -> None:
        """Raises Nondeterministic if the log holds steps that the handler never asked for."""
        if not self.caught_up:
            raise self._nondeterministic(None)

    def _look(self) -> None:
        if not self._unasked:
            self._caught_up.set()

    def _nondeterministic(self, key: str | None) -> Nondeterministic:
        recorded, asked = _differing(list(self._requested), list(self._seen))
        what = f"asks for step '{key}'" if key else "ended early"
        return Nondeterministic(
            f"the handler {what}, but its log holds other steps: the log has {recorded}, the handler asked for {asked}",
            hint="its code changed while the task was under way: serve the version that began it, or one that fits",
        )


def _differing(recorded: list[str], asked: list[str]) -> tuple[str, str]:
    """Both sequences from just before they part, as a person can read them."""
    same = next((n for n, (a, b) in enumerate(zip(recorded, asked, strict=False)) if a != b), None)
    begin = max(0, (min(len(recorded), len(asked)) if same is None else same) - SHOWN_STEPS // 2)

    def shown(steps: list[str]) -> str:
        rest = len(steps) - begin - SHOWN_STEPS
        before = f"{begin} steps, then " if begin else ""
        return f"{before}{steps[begin : begin + SHOWN_STEPS]}" + (f" and {rest} more" if rest > 0 else "")

    return shown(recorded), shown(asked)
