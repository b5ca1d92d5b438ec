"""Page tokens: opaque, with a version, and good for the query they were given for."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final

import msgspec
from msgspec import Struct

from mesh.errors import InvalidInput

VERSION: Final = 1


class _Token(Struct, array_like=True):
    v: int
    query: str
    after: list[int]


def token(query: Any, after: list[int]) -> str:
    """The token of the page that begins after this position."""
    packed = msgspec.json.encode(_Token(VERSION, _digest(query), after))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def position(query: Any, text: str | None, length: int) -> list[int] | None:
    """The position that a token names, of so many numbers; None without one, for the first page.

    Raises: InvalidInput for what is no token of this query.
    """
    if text is None:
        return None
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        found = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Token)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("this is no page token", hint="begin again without one") from error
    if found.v != VERSION or found.query != _digest(query) or len(found.after) != length:
        raise InvalidInput("this page token belongs to another query", hint="begin again without one")
    return found.after


def _digest(query: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(query, order="deterministic")).hexdigest()[:16]
