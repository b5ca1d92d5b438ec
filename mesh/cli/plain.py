"""Text of others, as a terminal may see it."""

from __future__ import annotations


def plain(text: str) -> str:
    """The text, with what a terminal would obey in escapes."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()
