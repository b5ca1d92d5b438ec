"""The error of a task, a step or a reply, and the closed set of its codes."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

UNKNOWN_AGENT: Final = "unknown_agent"
INVALID_INPUT: Final = "invalid_input"
DUPLICATE_ID: Final = "duplicate_id"
TOO_LARGE: Final = "too_large"
DEADLINE_EXCEEDED: Final = "deadline_exceeded"
ATTEMPTS_EXHAUSTED: Final = "attempts_exhausted"
HANDLER_ERROR: Final = "handler_error"
NONDETERMINISTIC: Final = "nondeterministic"
TOOL_OUTCOME_UNKNOWN: Final = "tool_outcome_unknown"
TOOL_TIMEOUT: Final = "tool_timeout"
TOOL_FAILED: Final = "tool_failed"
MODEL_NOT_CONFIGURED: Final = "model_not_configured"
MODEL_UNAVAILABLE: Final = "model_unavailable"
MODEL_REJECTED: Final = "model_rejected"
OUTPUT_INVALID: Final = "output_invalid"
LIMIT_EXCEEDED: Final = "limit_exceeded"
STORAGE_FULL: Final = "storage_full"
FENCED: Final = "fenced"
CURSOR_EXPIRED: Final = "cursor_expired"
BUS_UNAVAILABLE: Final = "bus_unavailable"
PERMISSION_DENIED: Final = "permission_denied"


class Error(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why something failed, for a program (`code`) and for a person.

    `code` is API and never changes its meaning; `message` and `hint` are free text. `retryable` says whether the
    same request may succeed later without a change.
    """

    code: str
    message: str
    hint: str | None = None
    retryable: bool = False
    details: dict[str, Any] | None = None
