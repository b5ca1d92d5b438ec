"""What is asked of a store: how much it has in hand of each kind, how much it answered, when it last refused any."""

from __future__ import annotations

import time
from collections.abc import Mapping

from msgspec import Struct

from mesh.errors import MeshError
from mesh.worker.tally import Tally
from schemas.instant import rfc3339
from schemas.service import EndpointStats, QueueState
from services.session_store.waiting import Busy


class Question(Struct, eq=False):
    """One that is in hand; what it only waits for the view is no work."""

    kind: str
    began: float
    waited_s: float = 0.0


class Book:
    """Kept for `kinds`, each with its subject and its queue group; at most `limit` are worked on at once."""

    def __init__(self, kinds: Mapping[str, tuple[str, str]], *, limit: int) -> None:
        self.limit = limit
        self.refused_at = float("-inf")
        self._kinds = kinds
        self._tallies = {kind: Tally() for kind in kinds}
        self._in_hand: set[Question] = set()

    def __len__(self) -> int:
        """How many are in hand."""
        return len(self._in_hand)

    def open(self, kind: str) -> Question:
        """A question has come."""
        question = Question(kind, time.monotonic())
        self._in_hand.add(question)
        self._tallies[kind].take()
        return question

    def close(self, question: Question, error: MeshError | None) -> None:
        """It was answered, perhaps with an error."""
        self._in_hand.discard(question)
        tally = self._tallies[question.kind]
        tally.let_go(max(0.0, time.monotonic() - question.began - question.waited_s))
        if error is not None:
            tally.fail(error)
        if isinstance(error, Busy):
            self.refused_at = time.monotonic()

    def endpoints(self) -> tuple[EndpointStats, ...]:
        """The same in the words of NATS micro."""
        return tuple(self._endpoint(kind) for kind in self._kinds)

    def _endpoint(self, kind: str) -> EndpointStats:
        tally, (subject, group) = self._tallies[kind], self._kinds[kind]
        since = [question.began for question in tuple(self._in_hand) if question.kind == kind]
        state = QueueState(
            in_flight=len(since), slots=self.limit, pending=0, unacknowledged=0, redelivered=0,
            last_progress=rfc3339(tally.last_at), oldest_s=round(time.monotonic() - min(since), 3) if since else 0.0,
        )  # fmt: skip
        return tally.stats(kind, subject, group, state)
