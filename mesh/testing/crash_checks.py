"""What must hold after a run whose worker was killed, compared with an undisturbed one; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from msgspec import Struct

from mesh.log.check import check_log
from mesh.log.head import EXECUTOR, TOOL_RUNNER, Entry
from mesh.subjects import root_of
from mesh.testing.crash_run import Run
from mesh.testing.logs import check_tail
from mesh.testing.trace import EFFECT, PERFORM, TraceLine
from schemas import error as codes
from schemas.step import StepCompleted, StepFailed, StepRequested, StepStarted


def check_run(run: Run, undisturbed: Run | None, once: Collection[str]) -> list[str]:
    """Everything that is wrong with a run."""
    if run.broken:
        return [run.broken]
    found = [f"the log: {violation}" for violation in check_log(run.entries)]
    for name, events in run.tails.items():
        found += [f"{name}: {difference}" for difference in check_tail(events, run.entries)]
    if run.left:
        found.append(f"the work queue still holds {', '.join(run.left)}")
    found += repeated_steps(run.trace, run.entries)
    found += repeated_calls(run.trace, run.entries)
    found += _unknowns(run)
    if undisturbed is not None:
        found += _outcome(run, undisturbed)
        found += _effects(run, undisturbed, once)
    return found


def outcome_unknown(entries: Collection[Entry]) -> bool:
    """Whether the kill hit a step that must not be repeated: then the handler's policy decides how the task goes on."""
    return any(
        isinstance(event.data, StepFailed) and event.data.error.code == codes.TOOL_OUTCOME_UNKNOWN
        for entry in entries
        for event in entry.commit.events
    )


def _outcome(run: Run, undisturbed: Run) -> Iterator[str]:
    if outcome_unknown(run.entries):
        return
    mine, other = run.result, undisturbed.result
    assert mine is not None
    assert other is not None
    if mine.state != other.state:
        yield f"the task ended as {mine.state} ({mine.error}), undisturbed as {other.state}"
    elif mine.output != other.output:
        yield f"the output is {mine.output!r}, undisturbed {other.output!r}"
    elif mine.error and other.error and mine.error.code != other.error.code:
        yield f"the error is {mine.error.code}, undisturbed {other.error.code}"
    if run.text != undisturbed.text:
        yield f"the text told is {run.text!r}, undisturbed {undisturbed.text!r}"


def repeated_steps(trace: Collection[TraceLine], entries: Sequence[Entry]) -> Iterator[str]:
    """Steps of one task that were performed after their result was committed, or must not be repeated and were.

    A claim is known by the number of its commit. The claim under which the result was committed must be the last that
    performed the step, and must have done so once. Lines of one process are in order, and so are those of a killed one
    and its successor.
    """
    performed = _performed(trace, entries)
    for key, result in _results(entries, "code").items():
        claims = performed.get(key, [])
        if not result.request.idempotent and len(claims) > 1:
            yield f"step '{key}' must not be repeated and was performed {len(claims)} times"
        elif not result.unknown and (not claims or claims[-1] != result.claim or claims.count(result.claim) > 1):
            yield (
                f"step '{key}' was performed under the claims {claims}, "
                f"and its result committed under claim {result.claim}"
            )


def repeated_calls(trace: Collection[TraceLine], entries: Sequence[Entry]) -> Iterator[str]:
    """Tool calls that were made without a start of their own in the log, or after their result was committed.

    Each attempt has a start, so that no two are made under one number; the one whose result counts is the last.
    """
    performed = _performed(trace, entries)
    for key, result in _results(entries, "tool").items():
        attempts = performed.get(key, [])
        starts = [
            event.data.attempt
            for entry in entries
            for event in entry.commit.events
            if isinstance(event.data, StepStarted) and event.data.step == key
        ]
        for attempt in sorted(set(attempts)):
            if attempt not in starts:
                yield f"call '{key}' was made as attempt {attempt}, which the log does not hold as started"
            elif attempts.count(attempt) > 1:
                yield f"call '{key}' was made {_times(attempts.count(attempt))} as attempt {attempt}"
        if attempts and attempts[-1] != max(attempts):
            yield f"call '{key}' was made in the attempts {attempts}, an old one after a newer one"
        elif not result.unknown and attempts and attempts[-1] != result.attempt:
            yield f"call '{key}' was made in the attempts {attempts}, and its result is that of {result.attempt}"


def _unknowns(run: Run) -> Iterator[str]:
    """Steps whose outcome is unknown without need: only a step that must not be repeated, if its worker fell."""
    fallen = run.point.role if run.point and run.reached else ""
    for kind, role in (("code", EXECUTOR), ("tool", TOOL_RUNNER)):
        for key, result in _results(run.entries, kind).items():
            if result.unknown and result.request.idempotent:
                yield f"step '{key}' may be repeated, and its outcome is recorded as unknown"
            elif result.unknown and fallen != role:
                yield f"the outcome of step '{key}' is recorded as unknown, and no {role} fell that could have made it"


def _performed(trace: Collection[TraceLine], entries: Sequence[Entry]) -> dict[str, list[int]]:
    """By step: the claims, or of a tool call the attempts, under which it was performed, in their order."""
    task = f".task.{root_of(entries[0].commit.task)}.{entries[0].commit.task}."
    performed: dict[str, list[int]] = {}
    for line in trace:
        if line.kind == PERFORM and task in line.subject:
            number, _, key = line.subject.partition(task)[2].partition(".")
            performed.setdefault(key, []).append(int(number))
    return performed


class _StepResult(Struct, frozen=True):
    """How a step ended: under which claim that was committed, and of which attempt."""

    claim: int
    attempt: int
    request: StepRequested
    unknown: bool


def _results(entries: Collection[Entry], kind: str) -> dict[str, _StepResult]:
    """The ends of all steps of one kind."""
    requested: dict[str, StepRequested] = {}
    results: dict[str, _StepResult] = {}
    for entry in entries:
        for event in entry.commit.events:
            data = event.data
            if isinstance(data, StepRequested):
                requested[data.step] = data
            elif isinstance(data, StepCompleted | StepFailed) and data.step in requested:
                unknown = isinstance(data, StepFailed) and data.error.code == codes.TOOL_OUTCOME_UNKNOWN
                ended = _StepResult(entry.commit.head.claim, data.attempt, requested[data.step], unknown)
                results.setdefault(data.step, ended)
    return {key: result for key, result in results.items() if result.request.kind == kind}


def _effects(run: Run, undisturbed: Run, once: Collection[str]) -> Iterator[str]:
    """What `note_effect` was told: as often as undisturbed, but for steps that may be performed again."""
    mine, other = _noted(run), _noted(undisturbed)
    for key in sorted(mine.keys() | other.keys()):
        name, step, idempotent = key
        count, due = mine[key], other[key]
        where = f"in step '{step}'" if step else "outside any step"
        again = count > due and (not step or not idempotent or name in once)
        missing = count < due and not outcome_unknown(run.entries)
        if again or missing:
            yield f"effect '{name}' was made {_times(count)}, undisturbed {_times(due)}, {where}"


def _noted(run: Run) -> Counter[tuple[str, str, bool]]:
    return Counter((line.subject, line.step, line.idempotent) for line in run.trace if line.kind == EFFECT)


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")
