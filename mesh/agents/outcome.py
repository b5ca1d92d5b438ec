"""What came of an effect, as a log keeps it and as a handler gets it."""

from __future__ import annotations

from typing import Any

from mesh.agents.guard import Raised, error_of
from mesh.agents.values import as_recorded, restore
from mesh.errors import InvalidInput, OutcomeUnknown, StepFailed, TooLarge
from mesh.log.ops import Perform
from schemas import error as codes
from schemas.step import StepCompleted
from schemas.step import StepFailed as StepFailedEvent


def outcome_of(op: Perform, value: Any, kind: Any, what: str) -> StepCompleted | StepFailedEvent:
    """The end of a step whose effect gave or raised this."""
    if not isinstance(value, Raised):
        try:
            return StepCompleted(step=op.step, attempt=op.attempt, output=as_recorded(value, kind, what))
        except (InvalidInput, TooLarge) as error:
            value = Raised(error)
    return StepFailedEvent(step=op.step, attempt=op.attempt, error=error_of(value.error))


def value_of(result: StepCompleted | StepFailedEvent, kind: Any) -> Any:
    """What a step gave; raises OutcomeUnknown, StepFailed."""
    if isinstance(result, StepCompleted):
        return restore(result.output, kind)
    if result.error.code == codes.TOOL_OUTCOME_UNKNOWN:
        raise OutcomeUnknown(result.error)
    raise StepFailed(result.error)
