"""Text that can be written as UTF-8, whatever a provider sent.

JSON may escape half of a character, alone or with its other half in the next piece of a stream.
"""

from __future__ import annotations

from typing import Any

import msgspec

from schemas.message import Message


class Characters:
    """The pieces of one text; half a character waits for its other half."""

    def __init__(self) -> None:
        self._half = ""

    def whole(self, piece: str) -> str:
        """What of the text is whole with this piece."""
        text, self._half = self._half + piece, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return cleaned(text)


def cleaned(text: str) -> str:
    """The text with a replacement character for each half of one."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def readable(message: Message) -> Message:
    """The message with all its texts cleaned."""
    try:
        msgspec.json.encode(message)
    except UnicodeEncodeError:
        return msgspec.convert(_all_cleaned(msgspec.to_builtins(message)), Message)
    return message


def _all_cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return cleaned(value)
    if isinstance(value, dict):
        return {cleaned(key): _all_cleaned(inner) for key, inner in value.items()}
    return [_all_cleaned(inner) for inner in value] if isinstance(value, list | tuple) else value
