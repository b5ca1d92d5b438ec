"""Names and ids: what is valid, and how ids are made.

Task ids are subject tokens. A generated id is a lower-case ULID; a child's id is its root's id, `--`, and a digest.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
TASK = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9_])?")
CHILD = re.compile(r"[a-z2-7]{13}")
MAX_CONTEXT_BYTES: Final = 256
_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"


def is_name(text: str) -> bool:
    """Whether an app, an agent or a tool may have this name."""
    return NAME.fullmatch(text) is not None


def is_root_id(text: str) -> bool:
    """Whether a caller may give a task this id."""
    return TASK.fullmatch(text) is not None and "--" not in text


def is_task_id(text: str) -> bool:
    """Whether a task, a child included, may have this id."""
    root, mark, child = text.partition("--")
    return is_root_id(root) and (not mark or CHILD.fullmatch(child) is not None)


def ulid(milliseconds: int, entropy: bytes) -> str:
    """A lower-case ULID of a Unix time in milliseconds and ten bytes."""
    number = (milliseconds << 80) | int.from_bytes(entropy[:10], "big")
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def new_id(milliseconds: int) -> str:
    """A fresh id for a task, sortable by the time it was made."""
    return ulid(milliseconds, secrets.token_bytes(10))


def derived_id(milliseconds: int, stream_created: str, sequence: int) -> str:
    """The id of a submit that named none: the same after any redelivery.

    `milliseconds` is the broker's time stamp of the message; the creation time of the stream keeps ids apart when a
    stream was deleted and its sequences begin again.
    """
    return ulid(milliseconds, hashlib.sha256(f"{stream_created}/{sequence}".encode()).digest())
