"""What reading JSON raises for bytes that are none, whatever their type."""

from __future__ import annotations

from typing import Final

import msgspec

# Bytes in a string that are not UTF-8 are no DecodeError, nor is what is nested too deep.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
