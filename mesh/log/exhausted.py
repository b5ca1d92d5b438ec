"""A task that kills its workers: its error, and its dead letter (P2, P4).

The dead letter follows the terminal event; whoever meets that end again publishes it again, so that a crash between
the two loses nothing.
"""

from __future__ import annotations

from mesh.log import dead_letters
from mesh.log.head import Entry
from mesh.log.ops import Message
from mesh.subjects import Subjects
from schemas import error as codes
from schemas.command import DeadLetter
from schemas.envelope import VERSION
from schemas.error import Error
from schemas.task import TaskFailed


def exhausted(starts: int) -> Error:
    """Why a task that no worker survives is failed."""
    if not starts:
        message = "the task was handed out many times and no worker could begin it"
    else:
        message = f"{starts} workers began this task and none of them came further"
    hint = "look at the workers' own logs: each died or was cut off before its first commit"
    return Error(code=codes.ATTEMPTS_EXHAUSTED, message=message, hint=hint)


def exhausted_letter(names: Subjects, entry: Entry) -> Message | None:
    """The dead letter that this end asks for, if it is such an end; `entry` is the newest of the log."""
    last = entry.commit.events[-1].data
    if not (isinstance(last, TaskFailed) and last.error.code == codes.ATTEMPTS_EXHAUSTED):
        return None
    task = entry.commit.task
    letter = DeadLetter(v=VERSION, task=task, error=last.error, subject=names.task(task), at=entry.commit.at)
    kind = dead_letters.ATTEMPTS_EXHAUSTED
    return Message(subject=names.dead(kind, task), body=letter, id=dead_letters.letter_id(task, entry.seq, kind))
