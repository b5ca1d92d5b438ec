"""What the user gives on the command line and on stdin."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from mesh.errors import InvalidInput
from schemas.ids import is_task_id


def read_text(argument: str) -> str:
    """The argument itself, or all of stdin for `-`, without the newline that ends it as it ends any text file.

    Raises: InvalidInput for what is not UTF-8.
    """
    try:
        if argument == "-":
            return sys.stdin.buffer.read().decode().removesuffix("\n")
        argument.encode()
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise InvalidInput(f"the input is not UTF-8: {error.reason}", hint="convert it with iconv") from error
    return argument


def read_object(text: str | None, option: str) -> dict[str, Any] | None:
    """The JSON object that an option holds.

    Raises: InvalidInput that names the option.
    """
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(f"{option} is no JSON object: {error}", hint=f"""{option} '{{"key": "value"}}'""") from error


def checked_id(id: str) -> str:
    """A task's id, looked at before anything is asked.

    Raises: InvalidInput.
    """
    if not is_task_id(id):
        raise InvalidInput(f"'{id}' is no task id", hint="`mesh run` and `mesh submit` print the id of each task")
    return id
