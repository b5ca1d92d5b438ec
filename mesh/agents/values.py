"""Values between JSON and the user's annotations: inputs, outputs, step results."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import msgspec

from mesh.errors import AppError, InvalidInput, TooLarge
from schemas.command import MAX_NESTING, deeper_than
from schemas.object import MAX_VALUE_BYTES


def read_input(value: Any, kind: Any) -> Any:
    """A submitted input as the handler's parameter wants it; raises InvalidInput.

    Text for a parameter that is no text is read as JSON, so that `mesh run add '{"a": 1}'` does what it says.
    """
    if kind is inspect.Parameter.empty or kind is Any:
        return value
    try:
        if isinstance(value, str) and not _takes_text(kind):
            return _convert(msgspec.json.decode(value), kind)
        return _convert(value, kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(f"the input does not fit: {error}", hint=f"this agent takes {describe(kind)}") from error


def as_recorded(value: Any, kind: Any, what: str) -> Any:
    """The JSON values of a result; raises InvalidInput with what cannot be recorded.

    They have been through JSON, so that what is used now is what a replay finds.
    """
    try:
        body = msgspec.json.encode(value)
        plain = msgspec.json.decode(body)
        if body.count(b"{") + body.count(b"[") > MAX_NESTING and deeper_than(plain, MAX_NESTING):
            raise ValueError(f"it is nested deeper than {MAX_NESTING} levels")
        restore(plain, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{what} does not fit its annotation: {error}") from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInput(
            f"{what} cannot be recorded: {error}", hint="return text, numbers, lists, dicts, dataclasses or structs"
        ) from error
    if len(body) > MAX_VALUE_BYTES:
        raise TooLarge(
            f"{what} is {len(body)} bytes long, over the limit of {MAX_VALUE_BYTES}",
            hint="write it as an artifact and return its name",
        )
    return plain


def restore(plain: Any, kind: Any) -> Any:
    """A recorded result as its function's annotation wants it."""
    if kind is inspect.Parameter.empty or kind is Any or kind is None:
        return plain
    return _convert(plain, kind)


def return_type(function: Callable[..., Any]) -> Any:
    """What a function says it returns; `Any` where it says nothing or cannot be asked."""
    try:
        return get_type_hints(function, include_extras=True).get("return", Any)
    except (NameError, TypeError, AttributeError):
        return Any


def schema_of(kind: Any, where: str) -> dict[str, Any] | None:
    """JSON Schema of an annotation; raises AppError for one that msgspec cannot read."""
    if kind is inspect.Parameter.empty or kind is Any or kind is None:
        return None
    try:
        return msgspec.json.schema(kind)
    except TypeError as error:
        raise AppError(
            f"{where}: {error}", hint="use a dataclass or a msgspec.Struct, or text, numbers, lists, dicts"
        ) from error


def describe(kind: Any) -> str:
    """An annotation as a person reads it."""
    return getattr(kind, "__name__", None) or str(kind)


def _convert(plain: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(plain, kind, str_keys=True)
    except (msgspec.ValidationError, RecursionError):
        raise
    except Exception as error:  # a dataclass's own __post_init__ may raise anything
        raise msgspec.ValidationError(f"{type(error).__name__}: {error}") from error


def _takes_text(kind: Any) -> bool:
    try:
        msgspec.convert("", kind)
    except msgspec.ValidationError as error:
        return "got `str`" not in str(error)
    return True
