"""The bus: everything the mesh does with NATS, and nothing of how."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from mesh.bus.admin import Admin
from mesh.bus.api import Api
from mesh.bus.bucket import Buckets
from mesh.bus.connection import Link
from mesh.bus.delivery import Delivery, Verbs
from mesh.bus.follow import Follow
from mesh.bus.inbox import Inbox
from mesh.bus.live import LiveSubscription, listen, live_message
from mesh.bus.messages import (
    Conflict,
    ConsumerState,
    Difference,
    LiveMessage,
    Observer,
    StoredMessage,
    StreamFacts,
    StreamState,
    Subscription,
)
from mesh.bus.objects import ObjectStores, StoredObject
from mesh.bus.on_demand import OnDemand
from mesh.bus.publish import Publisher
from mesh.bus.pull import Puller
from mesh.bus.read import Reader
from mesh.bus.scan import Scan
from mesh.bus.watch import OnEntry, Watch
from mesh.errors import BusUnavailable, MeshError
from mesh.streams import Consumer, Definitions
from mesh.subjects import Subjects

_MAX_BACKLOG = 8 * 1024 * 1024
_YIELD_EVERY = 64


class Opening(Subscription, Protocol):
    """What is opened before it is handed out."""

    async def open(self) -> None:
        """Begin it."""


OpeningT = TypeVar("OpeningT", bound=Opening)


class Bus:
    """Connections to one broker, kept alive until closed.

    Four of them, so that none delays another: *commit* for everything that waits for an answer, for what is answered to
    others and for the verbs of deliveries, *bulk* for what may be lost, *objects* for large bodies, *control* for
    deliveries and live subscriptions. Who can commit can keep what it holds, and say so; who cannot takes nothing, so
    *control* stands only while *commit* does. The last three are opened on first use. What cannot be sent now is never
    sent later: the caller is told instead. `timeout_s` bounds every single wait for the broker; an append, a publish
    and a request may have a time of their own.
    """

    def __init__(self, url: str, *, name: str, observer: Observer | None, timeout_s: float) -> None:
        """Use `connect`."""
        self.url = url
        self.name = name
        self._observer = observer
        self._commit = Link(url, f"{name}/commit", timeout_s=timeout_s)
        self._bulk = OnDemand(Link(url, f"{name}/bulk", timeout_s=timeout_s), self._returned)
        self._control = OnDemand(Link(url, name, timeout_s=timeout_s, behind=self._commit), self._returned)
        self._inbox = Inbox(self._commit)
        self._api = Api(self._inbox)
        self._publisher = Publisher(self._inbox, observer)
        self._scan = Scan(self._commit, self._api)
        self._reader = Reader(self._inbox, self._api, self._scan)
        self._buckets = Buckets(self._inbox, self._publisher, self._scan)
        self._admin = Admin(self._api)
        self._large = OnDemand(Link(url, f"{name}/objects", timeout_s=timeout_s), self._returned)
        self._objects = _objects_over(self._large, observer)
        self._on_reconnect: list[Callable[[], None]] = []
        self._handed_out: set[Subscription] = set()
        self._sent = 0
        self._commit.on_back(self._returned)

    @classmethod
    async def connect(cls, url: str, *, name: str, observer: Observer | None = None, timeout_s: float = 5.0) -> Bus:
        """Connect to a broker.

        Raises:
            BusUnavailable: nothing answers at this address; at once where the connection is refused.
            PermissionDenied: the broker does not take these credentials.
        """
        bus = cls(url, name=name, observer=observer, timeout_s=timeout_s)
        try:
            await bus._commit.open()
            await bus._inbox.open()
        except BaseException:
            await bus.aclose()
            raise
        return bus

    async def aclose(self) -> None:
        """Close everything: first what reads, then the connections."""
        while self._handed_out:
            await self._handed_out.pop().aclose()
        self._inbox.close()
        for link in (self._control.link, self._bulk.link, self._large.link, self._commit):
            await link.aclose()

    @property
    def connected(self) -> bool:
        """Whether every connection in use stands."""
        return all(link.connected for link in self._links())

    @property
    def max_payload(self) -> int:
        """The largest message that the broker takes, in bytes.

        Raises:
            BusUnavailable: there is no connection.
        """
        return self._commit.session.client.max_payload

    async def wait_connected(self) -> None:
        """Wait until the connection that commits stands; the others have no say in what is appended and read."""
        await self._commit.wait_connected()

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Call when all connections stand again after a loss."""
        self._on_reconnect.append(callback)

    async def append(
        self, subject: str, data: bytes, *, expected: int, timeout_s: float | None = None
    ) -> int | Conflict:
        """Append to a log if `expected` is still its newest sequence.

        No message id is sent: a used one would be answered as stored without being stored.

        Raises:
            BusUnavailable: nothing is known; repeat the same bytes until one of the two answers comes.
            StorageFull: the stream takes no more; repeat later.
            TooLarge: the broker never takes this.
            PermissionDenied: this user may not write there.
        """
        return await self._publisher.append(subject, data, expected=expected, timeout_s=timeout_s)

    async def append_all(self, subject: str, bodies: Sequence[bytes]) -> int | Conflict:
        """Append all of these to an empty log, or none; answers the last one's sequence.

        The stream must take atomic batches.

        Raises:
            BusUnavailable: nothing is known; look at the log.
            StorageFull: the stream takes no more; repeat later.
            TooLarge: these are more than the broker takes at once.
        """
        return await self._publisher.append_all(subject, bodies)

    async def publish(
        self, subject: str, data: bytes, *, headers: Mapping[str, str] | None = None, timeout_s: float | None = None
    ) -> int:
        """Publish and wait until it is stored; answers its stream sequence.

        Raises:
            BusUnavailable: nothing is known; repeat it, under the same message id where it has one.
            StorageFull: the stream takes no more; repeat later.
            TooLarge: the broker never takes this.
            PermissionDenied: this user may not write there.
        """
        return await self._publisher.publish(subject, data, headers=headers, timeout_s=timeout_s)

    async def send(self, subject: str, data: bytes, *, reply: str = "") -> bool:
        """Send without waiting for anything; False if it was dropped.

        Only the very first call waits, for the connection.
        """
        self._sent += 1
        if not self._sent % _YIELD_EVERY:
            # A loop of sends would otherwise never let the socket have them.
            await asyncio.sleep(0)
        if self.backlog() > _MAX_BACKLOG:
            return False
        if self._observer is not None:
            self._observer.before("send", subject)
        try:
            if not self._bulk.opened and not self._commit.connected:
                return False
            link = await self._bulk.get()
            await link.publish(subject, data, reply=reply)
        except BusUnavailable:
            return False
        if self._observer is not None:
            self._observer.after("send", subject)
        return True

    def new_inbox(self) -> str:
        """A subject that others may answer to once, within what this connection's user may listen to."""
        return f"{self._commit.inbox}.{secrets.token_hex(8)}"

    def backlog(self) -> int:
        """Bytes sent that the socket has not taken yet."""
        return self._bulk.link.backlog

    async def request(
        self, subject: str, data: bytes, *, timeout_s: float, accept: Callable[[bytes], bool] = lambda body: True
    ) -> LiveMessage:
        """Ask whoever answers a subject; an answer that is not accepted counts as none.

        Raises:
            NobodyAnswers: nobody listens there, as the broker says at once.
            BusUnavailable: no answer in time.
            PermissionDenied: this user may not ask there.
        """
        return live_message(await self._inbox.request(subject, data, timeout_s=timeout_s, accept=accept))

    async def take_requests(self, subject: str, callback: Callable[[LiveMessage], None]) -> Subscription:
        """As `subscribe`, on the connection that commits: who can commit can be asked.

        Raises:
            BusUnavailable: there is no connection.
            PermissionDenied: this user may not listen there.
        """
        return await self._listen(self._commit, subject, callback)

    async def answer(self, request: LiveMessage, data: bytes) -> None:
        """Answer what came by `take_requests`; while that connection is down nothing is sent."""
        with suppress(BusUnavailable):
            await self._commit.publish(request.reply, data)

    async def newest(self, stream: str, subject: str, *, leader: bool = False) -> StoredMessage | None:
        """The newest message of a subject; without `leader` it may be old."""
        return await self._reader.newest(stream, subject, leader=leader)

    async def get(self, stream: str, seq: int) -> StoredMessage | None:
        """The message at a sequence, or None if it is gone."""
        return await self._reader.get(stream, seq)

    async def read(
        self, stream: str, subject: str, *, first: int, expected: int = 0, leader: bool = False
    ) -> list[StoredMessage]:
        """All messages of a literal subject from sequence `first` on.

        `expected` is a hint of how many; many are read in another way. With `leader` the answer reaches at least to
        what the leader holds newest when asked; without, it may be an old state.

        Raises:
            BusUnavailable: the read did not come to its end.
        """
        return await self._reader.read(stream, subject, first=first, expected=expected, leader=leader)

    def last_per_subject(self, stream: str, subject_filter: str) -> AsyncIterator[StoredMessage]:
        """The newest message of every subject below a wildcard, paced."""
        return self._reader.last_per_subject(stream, subject_filter)

    async def batch(self, stream: str, subject_filter: str, *, first: int, count: int) -> list[StoredMessage]:
        """At most `count` messages from sequence `first` on, as some replica has them; the filter may hold wildcards.

        Raises:
            BusUnavailable: the read did not come to its end.
        """
        return await self._reader.batch(stream, subject_filter, first=first, count=count)

    async def subscribe(
        self,
        subject: str,
        callback: Callable[[LiveMessage], None],
        *,
        on_gap: Callable[[], None] | None = None,
        queue: str = "",
    ) -> LiveSubscription:
        """Call for every message on a subject; the broker has the subscription on return.

        Of those who listen under the same `queue` name each message reaches one.

        The callback is called while the socket is read and delays everything else on it, so it only takes the message
        over; one that raises is logged. `on_gap` is called after a reconnect, when messages may have been missed.

        Raises:
            BusUnavailable: there is no connection.
            PermissionDenied: this user may not listen there.
        """
        return await self._listen(await self._control.get(), subject, callback, on_gap, queue)

    async def pull(
        self,
        stream: str,
        consumer: str,
        handler: Callable[[Delivery], None],
        *,
        slots: int,
        on_gone: Callable[[], None] | None = None,
    ) -> Puller:
        """Deliveries of a consumer, at most `slots` unreleased at a time.

        The handler must not raise and must not block; it takes the delivery over and calls `release` when done.
        `on_gone` is called when the consumer is not there, or may not be after a reconnect.

        Raises:
            BusUnavailable: there is no connection.
        """
        link = await self._control.get()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        verbs = Verbs(self._inbox, self._observer)
        puller = Puller(link, verbs, subject, handler, slots=slots, on_gone=on_gone)
        return await self._own(puller)

    async def follow(self, stream: str, *, after: int, covered: int = 0) -> Follow:
        """Every message of a stream after a message, in order and once; `next` tells what has come.

        `covered` is up to where the caller has been told before; no message should stand between.

        Raises:
            BusUnavailable: the broker is out of reach.
            MeshError: there is no such stream.
        """
        link = await self._control.get()
        verbs = Verbs(self._inbox, None)
        return await self._own(Follow(link, self._api, verbs, self._reader, stream, after=after, covered=covered))

    async def watch(self, bucket: str, on_entry: OnEntry) -> Subscription:
        """Call with every entry of a bucket, then with every change.

        Returns when all existing entries have been handed over. The value is None when a key is removed or expires.

        Raises:
            BusUnavailable: the broker is out of reach.
        """
        link = await self._control.get()
        watch = Watch(link, self._api, Verbs(self._inbox, None), bucket, on_entry)
        return await self._own(watch)

    async def put(self, bucket: str, key: str, value: bytes) -> int:
        """Store a value under a key; starts its time to live anew."""
        return await self._buckets.put(bucket, key, value)

    async def fetch(self, bucket: str, key: str) -> bytes | None:
        """The value of a key, or None."""
        return await self._buckets.fetch(bucket, key)

    async def remove(self, bucket: str, key: str) -> None:
        """Remove a key; one that is not there is no error."""
        await self._buckets.remove(bucket, key)

    async def keys(self, bucket: str) -> list[str]:
        """The keys that have a value."""
        return await self._buckets.keys(bucket)

    async def put_object(self, bucket: str, source: bytes | AsyncIterable[bytes]) -> StoredObject:
        """Keep a body under its digest; the same content is kept once.

        A stream is sent as it comes, and its duplicate removed afterwards. Until this returns, nobody can see it.

        Raises:
            BusUnavailable: it is not known to be kept; put the same again, which then costs nothing if it is.
            StorageFull: the bucket takes no more; nothing of it is kept.
        """
        return await self._objects.put(bucket, source)

    def open_object(self, bucket: str, digest: str) -> AsyncGenerator[bytes]:
        """A kept body, piece by piece; it counts once the last piece has come and nothing was raised.

        Raises:
            ArtifactMissing: nothing is kept under this digest.
            ArtifactDamaged: what came does not fit the digest.
            BusUnavailable: the read did not come to its end.
        """
        return self._objects.open(bucket, digest)

    async def find_object(self, bucket: str, digest: str) -> StoredObject | None:
        """What is kept under a digest, or None."""
        return await self._objects.find(bucket, digest)

    async def remove_object(self, bucket: str, digest: str, *, older_than_s: float = 0.0) -> bool:
        """Remove a body; False if it was put, or put again, less than so long ago."""
        return await self._objects.remove(bucket, digest, older_than_s)

    def objects(self, bucket: str) -> AsyncIterator[StoredObject]:
        """Every body that a bucket keeps."""
        return self._objects.objects(bucket)

    async def ensure(self, definitions: Definitions, *, tune: bool = True) -> list[str]:
        """Create what is missing and apply additive differences; says what it did.

        Without `tune` consumers that are there are left as they are: they hold settings, and who only looks has others.

        Raises:
            StreamMismatch: something differs that cannot be changed without loss.
        """
        return await self._admin.ensure(definitions, tune=tune)

    async def ensure_consumer(self, consumer: Consumer, *, tune: bool = True) -> list[str]:
        """Create a consumer, or with `tune` bring it to what is wanted; says what it did."""
        return await self._admin.ensure_consumer(consumer, tune=tune)

    async def inspect(self, definitions: Definitions) -> list[Difference]:
        """What differs from the definitions; changes nothing."""
        return await self._admin.inspect(definitions)

    async def has_mesh(self, names: Subjects) -> bool:
        """Whether this broker holds the streams of a mesh."""
        return await self._admin.has_mesh(names)

    async def stream_created(self, stream: str) -> str:
        """When a stream was created, as the broker prints it."""
        return (await self._admin.facts(stream)).created

    async def stream_facts(self, stream: str) -> StreamFacts:
        """When it was created, its newest sequence, its replicas, by one answer of the broker."""
        return await self._admin.facts(stream)

    async def stream_states(self, definitions: Definitions) -> dict[str, StreamState]:
        """How the streams and buckets of a mesh stand, by name, as far as they are there."""
        return await self._admin.standings(definitions)

    async def consumer_state(self, stream: str, consumer: str) -> ConsumerState | None:
        """What waits for a consumer, or None if it is not there; for a person who asks, not to be polled."""
        return await self._admin.consumer_state(stream, consumer)

    async def server_time(self, stream: str) -> float:
        """The clock of the broker that leads a stream, in seconds since 1970."""
        return await self._admin.time(stream)

    async def last_sequence(self, stream: str) -> int:
        """The sequence of the newest message that a stream has taken, whether it is still there or not."""
        return (await self._admin.facts(stream)).last_seq

    async def counts(self, stream: str, subject_filter: str) -> dict[str, int]:
        """How many messages each matching subject has."""
        return await self._admin.counts(stream, subject_filter)

    async def purge(self, stream: str, subject: str, *, upto: int | None = None) -> None:
        """Remove all messages of a subject, or those up to a sequence."""
        await self._admin.purge(stream, subject, upto)

    async def delete(self, stream: str, seq: int) -> bool:
        """Remove one message; False if it was gone."""
        return await self._admin.delete(stream, seq)

    async def server_info(self) -> Mapping[str, Any]:
        """Version, largest message, and what JetStream says of the account; `led` is false while a cluster elects."""
        client = self._commit.session.client
        version = client.connected_server_version
        try:
            account = await self._admin.account()
        except MeshError:
            account = None
        return {
            "version": f"{version.major}.{version.minor}.{version.patch}",
            "max_payload": client.max_payload,
            "jetstream": account is not None,
            "led": bool(account),
            "account": account,
        }

    def _links(self) -> list[Link]:
        return [self._commit] + [one.link for one in (self._bulk, self._control, self._large) if one.opened]

    def _returned(self) -> None:
        if self.connected:
            for callback in self._on_reconnect:
                callback()

    async def _listen(
        self,
        link: Link,
        subject: str,
        callback: Callable[[LiveMessage], None],
        on_gap: Callable[[], None] | None = None,
        queue: str = "",
    ) -> LiveSubscription:
        subscription = await listen(link, subject, callback, on_gap, self._handed_out.discard, queue)
        self._handed_out.add(subscription)
        return subscription

    async def _own(self, opening: OpeningT) -> OpeningT:
        self._handed_out.add(opening)
        try:
            await opening.open()
        except BaseException:
            self._handed_out.discard(opening)
            raise
        return opening


def _objects_over(connection: OnDemand, observer: Observer | None) -> ObjectStores:
    """Object buckets over a connection of their own, with an inbox that is opened with it."""
    inbox = Inbox(connection.link)
    connection.on_open = inbox.open
    api, publisher = Api(inbox), Publisher(inbox, observer)
    scan = Scan(connection.link, api)
    return ObjectStores(connection.get, api=api, publisher=publisher, reader=Reader(inbox, api, scan), scan=scan)
