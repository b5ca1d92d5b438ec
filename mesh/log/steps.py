"""The steps of a handler as flows: those the owner performs, and those it asks others for.

Rules E1, E2, R7. What the owner performs itself goes with its result in one commit; a step that must not be repeated
commits its start first, and a start without a result is an unknown outcome.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from mesh.log.journal import Journal
from mesh.log.ops import Awaits, Calls, Commits, Flow, Lease, Perform
from schemas import error as codes
from schemas.envelope import Event, event
from schemas.error import Error
from schemas.step import Kind, StepCompleted, StepFailed, StepRequested, StepStarted


class Step(Struct, frozen=True, kw_only=True):
    """What a handler asks for: `key` is stable over re-runs."""

    key: str
    kind: Kind
    name: str
    idempotent: bool = True
    input: Any = None


def perform_step(journal: Journal, wanted: Step) -> Flow[StepCompleted | StepFailed]:
    """The recorded result of a step, or that of performing it now."""
    recorded = journal.results.get(wanted.key)
    if recorded is not None:
        return recorded
    request = _request(wanted)
    begun = journal.starts.get(wanted.key, 0)
    outcome: StepCompleted | StepFailed
    if begun and not wanted.idempotent:
        lost = f"step '{wanted.key}' was begun by a worker that died before its result was recorded"
        outcome = StepFailed(step=wanted.key, attempt=begun, error=unknown_outcome(lost))
        yield Commits((event(outcome),))
        return outcome
    attempt = begun + 1
    if not wanted.idempotent:
        yield Commits((request, event(StepStarted(step=wanted.key, attempt=attempt))))
    yield Lease()
    outcome = yield Perform(wanted.key, attempt)
    yield Commits((event(outcome),) if not wanted.idempotent else (request, event(outcome)))
    return outcome


def call_step(journal: Journal, wanted: Step) -> Flow[StepCompleted | StepFailed]:
    """The recorded result of a step that somebody else performs, or that of asking for it now.

    The intent is committed before the call is published (R7). An open intent that may not have been published, because
    its owner died first, is published again; a copy too many finds in the log that another call covers the start.
    """
    recorded = journal.results.get(wanted.key)
    if recorded is not None:
        return recorded
    if wanted.key not in journal.requested:
        yield Commits((_request(wanted),))
        yield Calls(wanted.key)
    elif wanted.key in journal.owed:
        yield Calls(wanted.key, again=True)
    result: StepCompleted | StepFailed = yield Awaits(wanted.key)
    return result


def _request(wanted: Step) -> Event:
    return event(
        StepRequested(
            step=wanted.key, kind=wanted.kind, name=wanted.name, input=wanted.input, idempotent=wanted.idempotent
        )
    )


def unknown_outcome(what: str) -> Error:
    """Of something that was begun, must not be repeated, and has no result; `what` says of which and why."""
    return Error(
        code=codes.TOOL_OUTCOME_UNKNOWN,
        message=what,
        hint="it is declared idempotent=False, so it is not repeated: find out what happened and decide",
    )


def lost_with_runner(tool: str) -> Error:
    """A tool's start without a result."""
    return unknown_outcome(f"tool '{tool}' was begun by a runner that died before its result was recorded")
