"""Errors of pydantic-ai and its providers, as ours."""

from __future__ import annotations

from typing import Final

from pydantic_ai import exceptions as theirs

from mesh.errors import MeshError, ModelRejected, ModelUnavailable
from mesh.models.provider.characters import cleaned

MAX_MESSAGE: Final = 500
_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (theirs.ModelAuthenticationError, "authentication"),
    (theirs.ModelNotFoundError, "not_found"),
    (theirs.ModelContextWindowExceededError, "context_window"),
    (theirs.ModelQuotaExceededError, "quota"),
    (theirs.ContentFilterError, "content_filter"),
)
# A conflict or a time-out of the provider's own, which its SDK would have tried again.
_PASSING_STATUS: Final = frozenset({408, 409, 425})


def translated(error: Exception, model: str, key: str) -> MeshError:
    """Ours for what a request raised; `key` says where the key comes from.

    An answer that broke off, had nothing in it or could not be read may be another one the next time.
    """
    text = f"{model}: {_told(error)}"
    if isinstance(error, theirs.ModelAPIError) and _is_passing(error):
        return ModelUnavailable(text, retry_after_s=error.retry_after)
    if isinstance(error, theirs.UnexpectedModelBehavior) and not isinstance(error, theirs.ContentFilterError):
        return ModelUnavailable(text)
    reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), "request")
    return ModelRejected(text, hint=_hint(error, reason, key), reason=reason)


def _is_passing(error: theirs.ModelAPIError) -> bool:
    if isinstance(error, theirs.ModelHTTPError):
        if error.provider_retry_hint is not None:
            return error.provider_retry_hint
        if error.status_code in _PASSING_STATUS:
            return True
    return not isinstance(error, theirs.ModelRequestRejectedError | theirs.ModelQuotaExceededError)


def _told(error: Exception) -> str:
    """What happened, and the provider's own words where it has said some."""
    if isinstance(error, theirs.ModelTimeoutError):
        return "the provider was silent for too long"
    if isinstance(error, theirs.ModelConnectionError):
        return "the provider cannot be reached" if error.phase == "connect" else "the connection broke"
    if not isinstance(error, theirs.ModelHTTPError):
        return _bounded(str(error))
    said = error.body
    while isinstance(said, dict):
        said = said.get("message") or said.get("error")
    where = " in the middle of the answer" if error.in_stream else ""
    return f"the provider answered {error.status_code}{where}" + (f": {_bounded(str(said))}" if said else "")


def _hint(error: Exception, reason: str, key: str) -> str | None:
    if reason == "authentication":
        return f"check {key}"
    suggested = getattr(error, "suggested_model_id", None)
    return f"did you mean {suggested}?" if suggested else None


def _bounded(text: str) -> str:
    return cleaned(text if len(text) <= MAX_MESSAGE else f"{text[:MAX_MESSAGE]}…")
