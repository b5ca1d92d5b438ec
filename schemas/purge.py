"""What the stream of the logs says about logs that are no longer in it."""

from __future__ import annotations

from msgspec import Struct


class LogsPurged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """These logs are gone, each up to a sequence of the stream; what stands after that is another log of the same id.

    `by` is who purged them. Of messages like this one those up to the sequence `floor` are gone as well.
    """

    v: int
    by: str
    logs: dict[str, int] = {}
    floor: int = 0
