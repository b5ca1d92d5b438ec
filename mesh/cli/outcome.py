"""How a command ends: exit codes, and errors as one line with a hint."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any, Final, NoReturn

import typer

from mesh.errors import AppError, InvalidInput, MeshError
from schemas.error import BUS_UNAVAILABLE

COMPLETED: Final = 0
FAILED: Final = 1
USAGE: Final = 2
CANCELED: Final = 3
WAITING: Final = 4
UNREACHABLE: Final = 5
LEFT: Final = 130

EXIT_OF: Final = {"completed": COMPLETED, "failed": FAILED, "rejected": FAILED, "canceled": CANCELED}


def leave_with(work: Coroutine[Any, Any, int], *, logs: str = "warning") -> NoReturn:
    """Runs a command's work and leaves with the exit code it returns.

    Raises: the MeshError that ended it, also out of a group.
    """
    from mesh.logs import configure
    from mesh.runtime.loop import loop_factory

    try:
        configure(os.environ, default=logs)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            code = runner.run(work)
            if asyncio.all_tasks(runner.get_loop()):
                # A handler that swallows its cancellation would hold up the end of the loop for ever.
                _leave_at_once(code)
    except BaseExceptionGroup as group:
        error = _mesh_error(group)
        if error is None:
            raise
        raise error from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        code = LEFT
    except BrokenPipeError:
        code = FAILED
    finally:
        work.close()
    raise typer.Exit(code)


def report(error: MeshError) -> int:
    """Says on stderr what went wrong and what to do; the exit code."""
    sys.stderr.write(f"error: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")
    if error.code == BUS_UNAVAILABLE:
        return UNREACHABLE
    return USAGE if isinstance(error, AppError | InvalidInput) else FAILED


def _leave_at_once(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _mesh_error(group: BaseExceptionGroup[BaseException]) -> MeshError | None:
    for error in group.exceptions:
        found = _mesh_error(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, MeshError):
            return found
    return None
