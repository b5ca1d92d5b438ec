"""What stands in the object store instead of in a message: large values and artifacts, by digest."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from msgspec import Struct

JSON: Final = "application/json"
# A value whose JSON is longer is not sent within a message.
LARGE_BYTES: Final = 256 * 1024
# What is held in memory at once, whoever sent it.
MAX_VALUE_BYTES: Final = 64 * 1024 * 1024
_DIGEST: Final = re.compile(r"sha256-[0-9a-f]{64}")
_DIGESTS: Final = re.compile(rb"sha256-[0-9a-f]{64}")


class ObjectRef(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a value is that does not stand here; `digest` is the object's name, `size` is in bytes."""

    digest: str
    size: int
    media_type: str = JSON


def digest_of(body: bytes) -> str:
    """The digest of a body, which is its object's name."""
    return named(hashlib.sha256(body).hexdigest())


def named(hexadecimal: str) -> str:
    """A SHA-256 in hexadecimal as a digest."""
    return f"sha256-{hexadecimal}"


def is_digest(text: str) -> bool:
    """Whether this can name an object."""
    return _DIGEST.fullmatch(text) is not None


def digests_in(data: bytes) -> frozenset[str]:
    """Every digest in the bytes of a commit, whatever event it stands in: what it refers to must be kept."""
    return frozenset([found.decode() for found in _DIGESTS.findall(data)])
