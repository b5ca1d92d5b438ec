"""Every subject and stream name, derived from one prefix token.

The root of a task id is what stands before the first `--`, so a task's subjects follow from its id alone.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

_STREAMS: Final = (
    ("work", "work"),
    ("runs", "run"),
    ("tasks", "tasks"),
    ("deltas", "deltas"),
    ("dead_letters", "dead"),
)


# Answers go to inboxes only: a caller must not make a service publish where the caller may not.
_INBOX: Final = re.compile(r"_INBOX[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)+")


def is_inbox(subject: str) -> bool:
    """Whether a service may answer there."""
    return _INBOX.fullmatch(subject) is not None


def root_of(task: str) -> str:
    """The root of the tree a task belongs to."""
    return task.partition("--")[0]


def stream_name(prefix: str, kind: str) -> str:
    """The name of a stream: `mesh` and `work` give `MESH_WORK`."""
    return f"{prefix.upper()}_{kind.upper()}"


@dataclass(frozen=True, slots=True)
class Subjects:
    """The names of one mesh; `prefix` is a single subject token."""

    prefix: str = "mesh"
    work: str = field(init=False)
    runs: str = field(init=False)
    tasks: str = field(init=False)
    deltas: str = field(init=False)
    dead_letters: str = field(init=False)
    agents: str = field(init=False)
    workers: str = field(init=False)
    artifacts: str = field(init=False)
    archives: str = field(init=False)

    def __post_init__(self) -> None:
        for name, kind in _STREAMS:
            object.__setattr__(self, name, stream_name(self.prefix, kind))
        object.__setattr__(self, "agents", f"{self.prefix}_agents")
        object.__setattr__(self, "workers", f"{self.prefix}_workers")
        object.__setattr__(self, "artifacts", f"{self.prefix}_artifacts")
        object.__setattr__(self, "archives", f"{self.prefix}_archives")

    def submit(self, agent: str) -> str:
        return f"{self.prefix}.submit.{agent}"

    def run(self, pool: str) -> str:
        return f"{self.prefix}.run.{pool}"

    def call(self, pool: str) -> str:
        return f"{self.prefix}.call.{pool}"

    def signal(self, task: str) -> str:
        return f"{self.prefix}.signal.{root_of(task)}.{task}"

    def ended(self, task: str) -> str:
        return f"{self.prefix}.ended.{root_of(task)}.{task}"

    def task(self, task: str) -> str:
        """The task's log."""
        return f"{self.prefix}.task.{root_of(task)}.{task}"

    def log(self, task: str) -> str:
        """The republished view of the log, for tails."""
        return f"{self.prefix}.log.{root_of(task)}.{task}"

    def delta(self, task: str) -> str:
        return f"{self.prefix}.delta.{root_of(task)}.{task}"

    def cancel(self, task: str) -> str:
        """The broadcast that reaches the whole tree of a task."""
        return f"{self.prefix}.cancel.{root_of(task)}"

    def cancel_all(self) -> str:
        return f"{self.prefix}.cancel.*"

    def worker(self, name: str) -> str:
        """Where one worker is asked and told by name."""
        return f"{self.prefix}.worker.{name}"

    def later(self, kind: str, task: str) -> str:
        """A timer; a repeat on the same subject replaces it."""
        return f"{self.prefix}.later.{kind}-{task}"

    def fired(self, task: str) -> str:
        return f"{self.prefix}.fired.{root_of(task)}.{task}"

    def dead(self, kind: str, task: str) -> str:
        return f"{self.prefix}.dead.{kind}.{task}"

    def context(self, context_id: str) -> str:
        return f"{self.prefix}.context.{hashlib.sha256(context_id.encode()).hexdigest()[:32]}"

    def purged(self) -> str:
        """What the stream of the logs says about logs that are gone."""
        return f"{self.prefix}.purged"

    def session(self, question: str) -> str:
        """What the session stores answer."""
        return f"{self.prefix}.session.{question}"
