"""Key-value buckets: values by key, on a stream that keeps the newest message of each subject."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mesh.bus.connection import Msg
from mesh.bus.definitions import bucket_stream, bucket_subject
from mesh.bus.inbox import Inbox
from mesh.bus.publish import Publisher
from mesh.bus.scan import Scan
from mesh.errors import InvalidInput, MeshError

_KEY = re.compile(r"[-/_=A-Za-z0-9]+(\.[-/_=A-Za-z0-9]+)*")
# A removal leaves a marker for those who watch, and the marker leaves after a while.
_REMOVAL = {"KV-Operation": "PURGE", "Nats-Rollup": "sub", "Nats-TTL": "60s"}


class Buckets:
    """Reads and writes the buckets of one bus."""

    def __init__(self, inbox: Inbox, publisher: Publisher, scan: Scan) -> None:
        self._inbox = inbox
        self._publisher = publisher
        self._scan = scan

    async def put(self, bucket: str, key: str, value: bytes) -> int:
        """Store a value, which starts its time to live anew."""
        return await self._publisher.publish(_subject(bucket, key), value)

    async def fetch(self, bucket: str, key: str) -> bytes | None:
        """The value of a key, or None."""
        subject = f"$JS.API.DIRECT.GET.{bucket_stream(bucket)}.{_subject(bucket, key)}"
        message: Msg = await self._inbox.ask(subject, b"")
        headers = message.headers or {}
        if "Nats-Sequence" in headers:
            return None if is_removal(headers) else message.data
        if headers.get("Status") == "404":
            return None
        raise MeshError(f"the broker refused to read {key} of {bucket}: status {headers.get('Status')}")

    async def remove(self, bucket: str, key: str) -> None:
        """Remove a key; one that is not there is no error."""
        await self._publisher.publish(_subject(bucket, key), b"", headers=_REMOVAL)

    async def keys(self, bucket: str) -> list[str]:
        """The keys that have a value now."""
        cut = len(bucket_subject(bucket, ""))
        config = {"filter_subject": bucket_subject(bucket, ">"), "deliver_policy": "last_per_subject"}
        return [
            one.message.subject[cut:]
            async for one in self._scan.messages(bucket_stream(bucket), config)
            if not is_removal(one.message.headers)
        ]


def is_removal(headers: Mapping[str, str] | None) -> bool:
    """Whether a bucket's message says that its key is gone."""
    return headers is not None and ("KV-Operation" in headers or "Nats-Marker-Reason" in headers)


def _subject(bucket: str, key: str) -> str:
    if _KEY.fullmatch(key) is None:
        raise InvalidInput(f"not a key: {key!r}", hint="letters, digits and -/_= in tokens joined by dots")
    return bucket_subject(bucket, key)
