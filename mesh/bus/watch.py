"""Watching a bucket: everything in it, then every change, for as long as one likes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from msgspec import Struct

from mesh.bus.api import Api
from mesh.bus.bucket import is_removal
from mesh.bus.connection import Link
from mesh.bus.definitions import bucket_stream, bucket_subject
from mesh.bus.delivery import Delivery, Verbs
from mesh.bus.ending import end
from mesh.bus.pull import Puller
from mesh.errors import MeshError

_log = logging.getLogger(__name__)
_SLOTS = 1_000
_RETRY_S = 0.2
_INACTIVE_NS = 30 * 1_000_000_000

OnEntry = Callable[[str, bytes | None], None]


class _Created(Struct):
    name: str
    num_pending: int = 0


class Watch:
    """One watch; it reads the whole bucket again after a reconnect, and names what has gone meanwhile.

    It holds a consumer in the broker's memory, because only a consumer is told that an entry has expired.
    """

    def __init__(self, link: Link, api: Api, verbs: Verbs, bucket: str, on_entry: OnEntry) -> None:
        self._link = link
        self._api = api
        self._verbs = verbs
        self._stream = bucket_stream(bucket)
        self._filter = bucket_subject(bucket, ">")
        self._cut = len(bucket_subject(bucket, ""))
        self._on_entry = on_entry
        self._known: set[str] = set()
        self._seen: set[str] = set()
        self._complete = asyncio.Event()
        self._stale = asyncio.Event()
        self._consumer = ""
        self._puller: Puller | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin, and return once every existing entry has been handed over.

        Raises:
            BusUnavailable: the broker is out of reach.
            MeshError: there is no such bucket.
        """
        try:
            await self._begin()
            self._task = asyncio.create_task(self._run(), name=f"watch {self._stream}")
            await self._complete.wait()
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Stop watching; safe to repeat."""
        task, self._task = self._task, None
        try:
            if task is not None:
                await end(task)
        finally:
            await self._end()

    async def _run(self) -> None:
        while True:
            await self._stale.wait()
            self._stale.clear()
            try:
                await self._end()
                await self._begin()
            except MeshError as error:
                _log.debug("watch waits: %s", error, extra={"stream": self._stream})
                self._stale.set()
                await asyncio.sleep(_RETRY_S)

    async def _begin(self) -> None:
        config = {
            "filter_subject": self._filter,
            "deliver_policy": "last_per_subject",
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": _INACTIVE_NS,
        }
        body = {"stream_name": self._stream, "config": config}
        created = await self._api.require(f"CONSUMER.CREATE.{self._stream}", body, _Created)
        self._consumer = created.name
        self._complete.clear()
        self._seen = set()
        if not created.num_pending:
            self._finish_snapshot()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{created.name}"
        self._puller = Puller(
            self._link,
            self._verbs,
            subject,
            self._take,
            slots=_SLOTS,
            on_gone=self._stale.set,
            on_idle=self._finish_snapshot,
        )
        await self._puller.open()

    async def _end(self) -> None:
        puller, self._puller = self._puller, None
        if puller is not None:
            await puller.aclose()
        consumer, self._consumer = self._consumer, ""
        if consumer:
            await self._api.drop_consumer(self._stream, consumer)

    def _take(self, delivery: Delivery) -> None:
        if self._puller is not None:
            self._puller.release()
        key = delivery.subject[self._cut :]
        if is_removal(delivery.headers):
            self._drop(key)
        else:
            self._known.add(key)
            self._seen.add(key)
            self._on_entry(key, delivery.data)
        if not delivery.pending:
            self._finish_snapshot()

    def _finish_snapshot(self) -> None:
        if self._complete.is_set():
            return
        self._complete.set()
        for key in self._known - self._seen:
            self._drop(key)

    def _drop(self, key: str) -> None:
        self._seen.discard(key)
        if key in self._known:
            self._known.discard(key)
            self._on_entry(key, None)
