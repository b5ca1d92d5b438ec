"""What a log holds for its handler: recorded steps and what was emitted.

Pure. A handler that is called again passes through its recorded steps; this is where it finds them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from msgspec import Raw

from mesh.log.head import is_progress
from schemas import step, task
from schemas.envelope import Commit, Event
from schemas.step import ArtifactAdded, StepCompleted, StepFailed, StepRequested, TextAdded
from schemas.task import TaskAccepted

WAITING: Final = "waiting"


class Journal:
    """The recorded part of a task, by step key, in the order of the log.

    `owed` are requests to others that may not have been published: whoever suspends as `WAITING` has published all.
    """

    def __init__(self, commits: Iterable[Commit]) -> None:
        self.accepted: TaskAccepted | None = None
        self.requested: dict[str, StepRequested] = {}
        self.owed: set[str] = set()
        self.results: dict[str, StepCompleted | StepFailed] = {}
        self.finished_at: dict[str, str] = {}
        self.starts: dict[str, int] = {}
        self.claims = 0
        self.text = ""
        self.events = 0
        self.artifacts: list[ArtifactAdded] = []
        self.at = ""
        self._failed: list[str] = []
        for commit in commits:
            self.at = self.at or commit.at
            for event in commit.events:
                self.add(event, commit.at)
            if is_progress(commit.by, commit.events):
                self._failed.clear()

    def wait_again(self) -> None:
        """Takes back what failed since the owner came further: its handler still waits there for all that it knows.

        For a task that was canceled, which is what those steps will have failed of.
        """
        for key in self._failed:
            del self.results[key]

    def add(self, event: Event, at: str) -> None:
        """Takes one more event of the log."""
        kind, data = event.type, event.data
        if isinstance(data, Raw):
            return  # an unknown type, or a later version's form of a known one
        if kind == task.ACCEPTED:
            self.accepted = data
        elif kind == task.STARTED:
            self.claims += 1
        elif kind == task.SUSPENDED and data.reason == WAITING:
            self.owed.clear()
        elif kind in step.EVENTS:
            self._add_step(kind, data, at)

    def _add_step(self, kind: str, data: Any, at: str) -> None:
        if kind == step.REQUESTED:
            self.requested.setdefault(data.step, data)
            if data.kind == "tool":
                self.owed.add(data.step)
        elif kind == step.STARTED:
            self.starts[data.step] = max(data.attempt, self.starts.get(data.step, 0))
        elif kind in (step.COMPLETED, step.FAILED):
            if data.step not in self.results:
                self.results[data.step] = data
                self.finished_at[data.step] = at
                if kind == step.FAILED:
                    self._failed.append(data.step)
        elif kind == step.TEXT_ADDED:
            self._add_text(data)
        elif kind == step.EVENT_ADDED:
            self.events += 1
        elif kind == step.ARTIFACT_ADDED:
            self.artifacts.append(data)

    def _add_text(self, data: TextAdded) -> None:
        if data.step == "":
            self.text += data.text
