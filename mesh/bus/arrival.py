"""A message as the socket brought it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

_VERSION = "NATS/1.0"


class Msg(Struct, gc=False):
    """One message; its headers are read when somebody asks for them.

    Most are not looked at: every stored message carries those of its publish, and reading them was a fifth of reading
    a long log. A message is never part of a cycle, and a long log is thousands of them: hence `gc=False`, here and for
    what they are decoded to, which is another fifth.
    """

    subject: str
    reply: str
    data: bytes
    _raw: bytes | None = None
    _headers: Mapping[str, str] | None = None

    @property
    def headers(self) -> Mapping[str, str] | None:
        """The headers, with the broker's own status as `Status` and `Description`."""
        if self._headers is None and self._raw:
            self._headers = parse_headers(self._raw)
        return self._headers


def parse_headers(raw: bytes) -> dict[str, str]:
    """Reads `NATS/1.0[ status[ description]]` and the lines below it."""
    headers: dict[str, str] = {}
    first, *lines = raw.decode("utf-8", "replace").split("\r\n")
    status, _, description = first.removeprefix(_VERSION).strip().partition(" ")
    if status:
        headers["Status"] = status
    if description:
        headers["Description"] = description
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip()] = value.strip()
    return headers
