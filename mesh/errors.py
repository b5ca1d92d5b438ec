"""Every exception this library raises on purpose.

    MeshError
    ├── BusUnavailable        the broker did not answer in time, or cannot be reached
    │   ├── NobodyAnswers     the broker says that nobody listens where something was asked
    │   ├── NotAMesh          a NATS server answers, but it holds no mesh
    │   └── ViewBehind        the session store has not come to a sequence in time
    ├── PermissionDenied      the broker refused a subject to this user
    ├── StorageFull           the broker's store takes no more
    ├── TooLarge              a message is larger than the broker takes
    ├── CursorExpired         the log that a cursor points into has been purged
    ├── UnknownTask           no log exists under this id
    ├── ResultTimeout         the task has not ended within the caller's time
    ├── InvalidInput          a value does not fit the wire or the agent's annotation
    ├── ArtifactMissing       nothing is kept under this digest or name
    │   └── ArtifactDamaged   what is kept does not fit its digest
    ├── StreamMismatch        a stream on the broker differs from what the protocol needs
    ├── ServerError           the embedded server cannot start
    │   ├── StoreLocked       another process holds the store
    │   └── PortTaken         another process listens on the port
    ├── AppError              an app cannot be loaded, or its definitions clash
    ├── NewerLog              a log was written by a newer version and is left to it
    ├── StepFailed            a step of a handler ended with an error
    │   └── OutcomeUnknown    a step that must not be repeated was begun and has no result
    ├── ModelNotConfigured    a model cannot be asked from here: no key, no package, no such provider
    ├── ModelUnavailable      a model did not answer, or not to the end; it may later
    ├── ModelRejected         a provider refused the request; the same one will be refused again
    ├── OutputInvalid         a model's answer did not fit what was asked for, to the last correction
    ├── ToolFailed            a tool says that it failed, and whether another attempt may help
    ├── LimitExceeded         an agent used all that it was allowed and had no answer
    ├── SecretMissing         a handler asked for a secret that is not set
    ├── Nondeterministic      a handler asked for other steps than its log holds
    └── TaskCancelled         the task has been asked to stop

`code` is stable and is what a program compares; `retryable` says whether the same call may succeed later.
"""

from __future__ import annotations

from msgspec import structs

from schemas import error as codes
from schemas.error import Error


class MeshError(Exception):
    """Base of every error this library raises on purpose."""

    code: str = codes.HANDLER_ERROR
    retryable: bool = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def to_error(self) -> Error:
        """The same as it goes over the wire."""
        return Error(code=self.code, message=self.message, hint=self.hint, retryable=self.retryable)


class BusUnavailable(MeshError):
    """The broker did not answer in time, or cannot be reached."""

    code = codes.BUS_UNAVAILABLE
    retryable = True


class NobodyAnswers(BusUnavailable):
    """The broker says that nobody listens where something was asked; somebody may, later."""


class NotAMesh(BusUnavailable):
    """A NATS server answers, but it holds no mesh."""


class ViewBehind(BusUnavailable):
    """The session store has not come to the sequence that was asked for in time; it will."""


class PermissionDenied(MeshError):
    """The broker refused a subject to this user."""

    code = codes.PERMISSION_DENIED


class StorageFull(MeshError):
    """The broker's store takes no more; free space or raise its limit."""

    code = codes.STORAGE_FULL
    retryable = True


class TooLarge(MeshError):
    """A message is larger than the broker takes."""

    code = codes.TOO_LARGE


class CursorExpired(MeshError):
    """The log that a cursor points into has been purged."""

    code = codes.CURSOR_EXPIRED


class UnknownTask(MeshError):
    """No log exists under this id."""

    code = codes.INVALID_INPUT


class ResultTimeout(MeshError):
    """The task has not ended within the caller's time; it goes on."""

    retryable = True


class InvalidInput(MeshError):
    """A value does not fit the wire or the agent's annotation."""

    code = codes.INVALID_INPUT


class ArtifactMissing(MeshError):
    """Nothing is kept under this digest or name."""

    code = codes.INVALID_INPUT


class ArtifactDamaged(ArtifactMissing):
    """What is kept does not fit its digest; put the content there again after removing it."""


class StreamMismatch(MeshError):
    """A stream on the broker differs from what the protocol needs."""


class ServerError(MeshError):
    """The embedded server cannot start, or has died."""

    code = codes.BUS_UNAVAILABLE


class StoreLocked(ServerError):
    """Another process holds the store; `pid` is its id where known."""

    def __init__(self, message: str, *, pid: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.pid = pid


class PortTaken(ServerError):
    """Another process listens on the port; `port` is its number."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"port {port} of {host} is taken by another process",
            hint="stop that process, or choose another port, or let a free one be chosen",
        )
        self.port = port


class AppError(MeshError):
    """An app cannot be loaded, or its definitions clash."""


class NewerLog(MeshError):
    """A log was written by a newer version, and only such a one may continue it."""

    code = codes.FENCED
    retryable = True


class StepFailed(MeshError):
    """A step of a handler ended with an error; `error` is what the log holds."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.message, hint=error.hint)
        self.error = error
        self.code = error.code
        self.retryable = error.retryable

    def to_error(self) -> Error:
        return self.error


class OutcomeUnknown(StepFailed):
    """A step that must not be repeated was begun and has no result."""


class ModelNotConfigured(MeshError):
    """A model cannot be asked from here: no key, no package, no such provider."""

    code = codes.MODEL_NOT_CONFIGURED


class ModelUnavailable(MeshError):
    """A model did not answer, or not to the end; `retry_after_s` is the provider's wish."""

    code = codes.MODEL_UNAVAILABLE
    retryable = True

    def __init__(self, message: str, *, hint: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s

    def to_error(self) -> Error:
        details = None if self.retry_after_s is None else {"retry_after_s": self.retry_after_s}
        return structs.replace(super().to_error(), details=details)


class ModelRejected(MeshError):
    """A provider refused the request; the same one will be refused again.

    `reason` is one of `authentication`, `quota`, `not_found`, `context_window`, `content_filter` and `request`.
    """

    code = codes.MODEL_REJECTED

    def __init__(self, message: str, *, hint: str | None = None, reason: str = "request") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason

    def to_error(self) -> Error:
        return structs.replace(super().to_error(), details={"reason": self.reason})


class OutputInvalid(MeshError):
    """A model's answer did not fit what was asked for, to the last correction."""

    code = codes.OUTPUT_INVALID


class ToolFailed(MeshError):
    """A tool says that it failed, in words for its caller; a model gets them as the call's result.

    Not `retryable`, it is not tried again whatever the tool's policy says; otherwise not before `retry_after_s`.
    """

    code = codes.TOOL_FAILED

    def __init__(
        self, message: str, *, hint: str | None = None, retryable: bool = True, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable
        self.retry_after_s = retry_after_s

    def to_error(self) -> Error:
        details = None if self.retry_after_s is None else {"retry_after_s": self.retry_after_s}
        return structs.replace(super().to_error(), details=details)


class LimitExceeded(MeshError):
    """An agent used all that it was allowed and had no answer."""

    code = codes.LIMIT_EXCEEDED


class SecretMissing(MeshError):
    """A handler asked for a secret that is not set."""


class Nondeterministic(MeshError):
    """A handler asked for other steps than its log holds."""

    code = codes.NONDETERMINISTIC


class TaskCancelled(MeshError):
    """The task has been asked to stop."""
