"""Commands in the work queue: submit, run, ended, fired, and dead letters.

A command is a hint: it names what to do, and only the log decides whether it is still to be done.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct

from schemas import error as codes
from schemas.envelope import Head
from schemas.error import Error
from schemas.ids import MAX_CONTEXT_BYTES, is_root_id
from schemas.object import ObjectRef, is_digest

MAX_NESTING: Final = 64
DEFAULT_OWNER: Final = "local/anonymous"
_OWNER: Final = re.compile(r"[^/\s\x00]{1,128}/[^/\s\x00]{1,128}")


class Submit(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller publishes on `mesh.submit.<agent>`; only `input` is needed, or `input_ref` for a large one.

    `deadline_s` counts from the broker's time stamp of this message; `context_id` names a conversation (free text, up
    to 256 bytes); `owner` is `<tenant>/<user>`; `trace` is a W3C traceparent.
    """

    input: Any = UNSET
    task_id: str | None = None
    context_id: str | None = None
    owner: str = DEFAULT_OWNER
    deadline_s: float | None = None
    metadata: dict[str, Any] | None = None
    trace: str = ""
    input_ref: ObjectRef | None = None


class Admission(Struct, frozen=True, kw_only=True):
    """A submit that was understood, with the digest that tells two bodies apart."""

    submit: Submit
    digest: str
    unknown: dict[str, Any] | None = None


class Refusal(Struct, frozen=True, kw_only=True):
    """A submit that was not understood; `task_id` is the given id if that is valid."""

    error: Error
    digest: str
    task_id: str | None = None


class Run(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Run a task of `agent`: on `mesh.run.<pool>`; `last`, `n` and `head` are the newest its writer saw.

    `opening` is commit 0 as it stands in the log, where that is all of the log and short: it spares a read.
    """

    v: int
    task: str
    root: str
    first: int
    last: int
    n: int
    head: Head
    wake: int
    not_apps: tuple[str, ...] = ()
    agent: str = ""
    opening: Raw = Raw()


class Call(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Make a tool call: on `mesh.call.<pool>`; `last`, `n` and `head` as in `Run`.

    `arguments` are the tool's by name; large ones stand at `arguments_ref`. The log holds the call as requested under
    the key `step`. `again` says that it may have been published before: then a start may stand in the log up to `last`.
    Whoever ends the call tells its end on the core subject `reply`, if one is given and begins with `_INBOX`.
    """

    v: int
    task: str
    root: str
    first: int
    last: int
    n: int
    head: Head
    step: str
    tool: str
    arguments: dict[str, Any] = {}
    timeout_s: float | None = None
    arguments_ref: ObjectRef | None = None
    again: bool = False
    reply: str = ""


class Ended(Struct, frozen=True, kw_only=True):
    """A task ended and somebody waits for that."""

    v: int
    task: str


class Fired(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A timer of a task fired, or a worker asks the router to look: `kind` says why."""

    v: int
    task: str
    kind: str
    delay_s: float = 0.0


class DeadLetter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message that could not be understood, routed or finished; enough to send it again.

    `size` is that of the body in bytes; one that does not fit is cut. `sequence` is the message's own in the stream it
    came from; 0 where the letter is about a task and not about a message.
    """

    v: int
    task: str
    error: Error
    subject: str
    at: str
    headers: dict[str, str] | None = None
    body: str = ""
    encoding: str = "utf-8"
    size: int = 0
    sequence: int = 0


DEADLINE: Final = "deadline"
CANCEL_GRACE: Final = "grace"
RESUME: Final = "resume"
UNDELIVERABLE: Final = "undeliverable"

_KEYS: Final = tuple(field.name for field in msgspec.structs.fields(Submit))
_command = msgspec.json.Decoder(dict[str, Any])


def parse_submit(agent: str, body: bytes) -> Admission | Refusal:
    """Reads the body of a submit; never raises, whatever the bytes.

    A body whose first byte after white space is `{` is a command; any other valid UTF-8 without NUL is text input.
    """
    if body.lstrip(b" \t\r\n")[:1] != b"{":
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            return _refuse(agent, body, f"the body is not UTF-8: {error.reason} at byte {error.start}")
        if "\x00" in text:
            return _refuse(agent, body, "the text holds a NUL byte")
        return Admission(submit=Submit(input=text), digest=_digest(agent, {"input": text}))
    try:
        keys = _command.decode(body)
    except RecursionError:
        return _refuse(agent, body, f"the body is nested deeper than {MAX_NESTING} levels")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _refuse(agent, body, f"the body begins with '{{' but is not a JSON object: {error}")
    return _admit(agent, body, keys)


def _admit(agent: str, body: bytes, keys: dict[str, Any]) -> Admission | Refusal:
    given = keys.get("task_id")
    task_id = given if isinstance(given, str) and is_root_id(given) else None
    if body.count(b"{") + body.count(b"[") > MAX_NESTING and deeper_than(keys, MAX_NESTING):
        return _refuse(agent, body, f"the body is nested deeper than {MAX_NESTING} levels", task_id)
    if "input" not in keys and "input_ref" not in keys:
        near = difflib.get_close_matches("input", list(keys), n=1, cutoff=0.5)
        hint = f"did you mean 'input' where it says '{near[0]}'?" if near else 'send {"input": ...}'
        return _refuse(agent, body, "the command has no `input`", task_id, hint)
    known = {key: value for key, value in keys.items() if key in _KEYS}
    try:
        submit = msgspec.convert(known, Submit)
    except msgspec.ValidationError as error:
        return _refuse(agent, body, str(error), task_id)
    problem = _input_problem(submit) or _problem(submit)
    if problem:
        return _refuse(agent, body, problem, task_id)
    unknown = {key: value for key, value in keys.items() if key not in _KEYS}
    return Admission(submit=submit, digest=_digest(agent, keys), unknown=unknown or None)


def _input_problem(submit: Submit) -> str | None:
    if submit.input_ref is None:
        return "the command has no `input`, and its `input_ref` is null" if submit.input is UNSET else None
    if submit.input is not UNSET:
        return "the command has both `input` and `input_ref`"
    if not is_digest(submit.input_ref.digest):
        return "`$.input_ref.digest` must be 'sha256-' and 64 hexadecimal digits in lower case"
    return None


def _problem(submit: Submit) -> str | None:
    if submit.task_id is not None and not is_root_id(submit.task_id):
        return "`$.task_id` must be 1 to 64 of A-Z a-z 0-9 _ -, begin with a letter or digit, not end with '-', no '--'"
    if submit.context_id is not None and not 0 < len(submit.context_id.encode()) <= MAX_CONTEXT_BYTES:
        return f"`$.context_id` must be 1 to {MAX_CONTEXT_BYTES} bytes long"
    if not _OWNER.fullmatch(submit.owner):
        return "`$.owner` must be '<tenant>/<user>'"
    if submit.deadline_s is not None and not (math.isfinite(submit.deadline_s) and 0 < submit.deadline_s <= 10**9):
        return "`$.deadline_s` must be a positive number of seconds"
    return None


def _refuse(agent: str, body: bytes, message: str, task_id: str | None = None, hint: str | None = None) -> Refusal:
    digest = hashlib.sha256(agent.encode() + b"\x00" + body).hexdigest()[:32]
    return Refusal(error=Error(code=codes.INVALID_INPUT, message=message, hint=hint), digest=digest, task_id=task_id)


def _digest(agent: str, keys: dict[str, Any]) -> str:
    said = {key: value for key, value in keys.items() if key != "trace"}
    return hashlib.sha256(msgspec.json.encode([agent, said], order="sorted")).hexdigest()[:32]


def deeper_than(value: Any, levels: int) -> bool:
    """Whether lists and dicts lie within one another to more than so many levels."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [
            child
            for item in layer
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not layer:
            return False
    return True
