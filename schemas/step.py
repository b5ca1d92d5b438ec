"""Events of steps: every effect of a handler, and what it emits.

A step's key is its name and its occurrence in request order (`facts`, `facts#2`). `attempt` counts executions of one
step over workers and retries. Text that belongs to no step has the empty step key and part 0.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct

from schemas.error import Error
from schemas.object import ObjectRef
from schemas.task import Usage

Kind = Literal["code", "model", "tool", "child", "sleep", "input"]

REQUESTED: Final = "step.requested"
STARTED: Final = "step.started"
PROGRESS: Final = "step.progress"
COMPLETED: Final = "step.completed"
FAILED: Final = "step.failed"
TEXT_ADDED: Final = "text.added"
ARTIFACT_ADDED: Final = "artifact.added"
EVENT_ADDED: Final = "event.added"


class StepRequested(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The handler asked for an effect; a large input stands at `input_ref`."""

    step: str
    kind: str
    name: str
    input: Any = None
    idempotent: bool = True
    input_ref: ObjectRef | None = None


class StepStarted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody is about to perform the effect.

    For a tool call `cover` is the stream sequence of the call that the start answers, and `delivery` its delivery.
    """

    step: str
    attempt: int = 1
    by: str = ""
    cover: int = 0
    delivery: int = 0


class StepProgress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a step, or with an empty key the handler, has come; `fraction` is 0 to 1."""

    step: str = ""
    message: str = ""
    fraction: float | None = None


class Streamed(Struct, frozen=True):
    """A part of a model's answer that is text; `chunks` as in `TextAdded`."""

    part: int
    chunks: tuple[tuple[int, int], ...] = ()


class StepCompleted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The effect has this result, for good; a large one stands at `output_ref`.

    That of a model step is a message; `streamed` names its parts that are text of the task, as `text.added` is.
    """

    step: str
    attempt: int = 1
    output: Any = None
    usage: Usage | None = None
    output_ref: ObjectRef | None = None
    streamed: tuple[Streamed, ...] = ()


class StepFailed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The effect ended with an error, for good."""

    step: str
    error: Error
    attempt: int = 1


Result = StepCompleted | StepFailed


class TextAdded(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of text that a handler streamed, from `offset` (characters) on.

    `chunks` are the pieces as they were streamed: `[milliseconds since the first one, length in characters]`, so that
    a replay can play them at their speed.
    """

    text: str
    offset: int
    attempt: int
    step: str = ""
    part: int = 0
    chunks: tuple[tuple[int, int], ...] = ()


class ArtifactAdded(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An artifact, held by digest; the same name again is a newer version."""

    name: str
    digest: str
    size: int
    media_type: str = "application/octet-stream"


class EventAdded(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event of the application's own; large data stand at `data_ref`."""

    name: str
    data: Any = None
    data_ref: ObjectRef | None = None


EVENTS: Final[dict[str, type[Struct]]] = {
    REQUESTED: StepRequested,
    STARTED: StepStarted,
    PROGRESS: StepProgress,
    COMPLETED: StepCompleted,
    FAILED: StepFailed,
    TEXT_ADDED: TextAdded,
    ARTIFACT_ADDED: ArtifactAdded,
    EVENT_ADDED: EventAdded,
}
