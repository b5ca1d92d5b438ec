"""How a command ends: exit codes, and errors as one line with a hint."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any, Final, NoReturn, TypeVar

import typer

from mesh.cli.signals import heed_ctrl_c, leave_at_ctrl_c
from mesh.errors import AppError, InvalidInput, MeshError
from schemas.error import BUS_UNAVAILABLE

COMPLETED: Final = 0
FAILED: Final = 1
USAGE: Final = 2
CANCELED: Final = 3
WAITING: Final = 4
UNREACHABLE: Final = 5
LEFT: Final = 130
UNREAD: Final = 141  # what a shell shows for a program that SIGPIPE ended

E = TypeVar("E", bound=BaseException)

EXIT_OF: Final = {"completed": COMPLETED, "failed": FAILED, "rejected": FAILED, "canceled": CANCELED}


def leave_with(work: Coroutine[Any, Any, int], *, logs: str = "warning") -> NoReturn:
    """Runs a command's work and leaves with the exit code it returns.

    Raises: the MeshError that ended it, also out of a group.
    """
    from mesh.logs import configure
    from mesh.runtime.loop import loop_factory

    heed_ctrl_c()
    try:
        configure(os.environ, default=logs)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            code = runner.run(work)
            if asyncio.all_tasks(runner.get_loop()):
                # A handler that swallows its cancellation would hold up the end of the loop for ever.
                _leave_at_once(code)
    except BaseExceptionGroup as group:
        if error := _first(group, MeshError):
            raise error from None
        if _first(group, BrokenPipeError) is None:
            raise
        leave_unread()
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = LEFT
    except BrokenPipeError:
        leave_unread()
    finally:
        work.close()
        leave_at_ctrl_c()
    raise typer.Exit(code)


def report(error: MeshError) -> int:
    """Says on stderr what went wrong and what to do; the exit code."""
    sys.stderr.write(f"error: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")
    if error.code == BUS_UNAVAILABLE:
        return UNREACHABLE
    return USAGE if isinstance(error, AppError | InvalidInput) else FAILED


def leave_unread() -> NoReturn:
    """Leaves because nobody reads stdout or stderr any more.

    Python would write what is left in its buffers at its end and complain, so they go nowhere.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    sys.exit(UNREAD)


def _leave_at_once(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _first(group: BaseExceptionGroup[BaseException], kind: type[E]) -> E | None:
    for error in group.exceptions:
        found = _first(error, kind) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, kind):
            return found
    return None
