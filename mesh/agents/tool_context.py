"""What a tool may ask for: a parameter annotated with `ToolContext` receives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from mesh.agents.programs import Finished, execute
from mesh.errors import InvalidInput, SecretMissing, TaskCancelled

MAX_PROGRESS_CHARS: Final = 2000


class ToolContext:
    """One attempt of one call.

    `idempotency_key` is the same at every attempt of the call: hand it to targets that take one.
    """

    def __init__(
        self,
        *,
        task: str,
        step: str,
        attempt: int,
        cancelled: Callable[[], bool],
        progress: Callable[[str, float | None], None],
        secrets: Callable[[str], str | None],
    ) -> None:
        self.task = task
        self.step = step
        self.attempt = attempt
        self.idempotency_key = f"{task}:{step}"
        self.log = structlog.get_logger("mesh.tool").bind(task=task, step=step, attempt=attempt)
        self._cancelled = cancelled
        self._progress = progress
        self._secrets = secrets

    def progress(self, message: str = "", fraction: float | None = None) -> None:
        """Says how far the call has come; whoever tails the task sees the newest, at most twice a second.

        It may be called from any thread; it is told as well as can be and never waited for. `fraction` is 0 to 1.

        Raises: InvalidInput.
        """
        if not isinstance(fraction, int | float | None):
            raise InvalidInput(f"a fraction is a number from 0 to 1, not {fraction!r}")
        if not isinstance(message, str):
            raise InvalidInput(f"the message is no text but {type(message).__name__}")
        self._progress(message[:MAX_PROGRESS_CHARS].encode(errors="backslashreplace").decode(), fraction)

    def check_cancelled(self) -> None:
        """Raises TaskCancelled if the task has been asked to stop; for loops in threads."""
        if self._cancelled():
            raise TaskCancelled(f"task '{self.task}' was asked to stop")

    def secret(self, name: str) -> str:
        """A secret from the tool runner's environment; it is never recorded.

        Raises: SecretMissing with the variable to set.
        """
        value = self._secrets(name)
        if value is None:
            hint = f"set the variable {name} where the tool runner runs"
            raise SecretMissing(f"secret '{name}' is not set", hint=hint)
        return value

    async def execute(self, command: Sequence[str], *, input: bytes = b"") -> Finished:
        """Runs a program and waits for it; it and all it started die with a cancel, a time-out, or the tool runner.

        Only what leaves the program's process group on purpose, as a daemon does, is not found again.

        Raises: FileNotFoundError for a program that is not there, or may not be executed.
        """
        return await execute(command, input)
