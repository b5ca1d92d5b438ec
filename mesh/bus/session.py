"""One client for as long as its socket lives; a lost session is never used again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from mesh.bus.arrival import Msg
from mesh.bus.tls import tls_for
from mesh.errors import BusUnavailable, MeshError, PermissionDenied

_log = logging.getLogger(__name__)
_PING_S = 2
_MAX_PINGS = 2
# Longer than a dead connection takes to be noticed by pings: a flush that gives up by itself would leave a cancelled
# pong behind, and the client's read loop ends on that.
_FLUSH_S = 30
_CLOSE_S = 2.0


@dataclass(frozen=True, slots=True)
class DialOptions:
    """Where to dial, and under which name."""

    servers: list[str]
    name: str
    inbox_prefix: str
    timeout_s: float

    def starting_elsewhere(self, left: str) -> DialOptions:
        """The servers in an order of chance, but the one that was left comes last."""
        servers = random.sample(self.servers, len(self.servers))
        servers.sort(key=lambda server: _address(server) == left)
        return replace(self, servers=servers)


class Inlet:
    """One subscription, attached to each session in turn.

    Its callback is called while the socket is read, so it must be short; who cannot keep up keeps a bounded buffer of
    his own. `failures` counts the messages over which the callback raised; each is logged, and the next one comes.
    """

    def __init__(
        self, subject: str, callback: Callable[[Msg], None], on_gap: Callable[[], None] | None = None, queue: str = ""
    ) -> None:
        self.subject = subject
        self.queue = queue
        self.denied = False
        self.failures = 0
        self._callback = callback
        self._on_gap = on_gap
        self._subscription: Subscription | None = None

    async def attach(self, client: Client) -> None:
        """Subscribe on a client; the one before it is gone."""
        self.denied = False
        try:
            self._subscription = await client.subscribe(self.subject, self.queue, cb=self._deliver)  # type: ignore[arg-type]
        except nats.errors.BadSubjectError as error:
            raise MeshError(f"not a subject to listen to: {self.subject!r}") from error
        except (nats.errors.Error, OSError, RuntimeError) as error:
            raise BusUnavailable(f"could not subscribe to {self.subject}: {error}") from error

    async def detach(self) -> None:
        """Unsubscribe, quietly if the client is gone."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(nats.errors.Error, OSError, RuntimeError):
                await subscription.unsubscribe()

    async def drain(self, session: Session) -> None:
        """Unsubscribe at the broker first and take what was on its way."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await session.finish(subscription.drain())  # type: ignore[no-untyped-call]

    def report_gap(self) -> None:
        """Messages may have been missed."""
        if self._on_gap is not None:
            self._on_gap()

    async def _deliver(self, message: Msg) -> None:
        try:
            self._callback(message)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - it would end the reading of the socket
            # Nothing is awaited here, so a cancellation is one that the callback found in a future of its own.
            self.failures += 1
            _log.error("a callback failed", exc_info=error, extra={"subject": self.subject, "failures": self.failures})


class _Client(Client):
    """The library's client with a shorter way for every message.

    Its own reads all headers, puts the message into a queue and wakes a task, which was a third of reading a long log.
    Should the library rename the method, its own way is taken again: what is lost is the time, and a test says so.
    """

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        callback = self._subs[sid]._cb if sid in self._subs else None  # noqa: SLF001
        if callback is not None:
            await callback(Msg(subject.decode(), reply.decode(), data, headers))  # type: ignore[arg-type]


class Session:
    """A client from its dial to its loss."""

    def __init__(
        self, options: DialOptions, *, lost: Callable[[Session], None], report: Callable[[Exception], None]
    ) -> None:
        self.client = _Client()
        self.lost = asyncio.Event()
        self._options = options
        self._on_lost = lost
        self._report = report
        self._dialling = True
        self._refusals = 0
        self._inlets: list[Inlet] = []
        self._exchanges: set[asyncio.Task[None]] = set()
        self._next_flush: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether this session can still send."""
        return not self.lost.is_set() and bool(self.client.is_connected)

    @property
    def server(self) -> str:
        """Host and port of the server; empty before there is one."""
        url = self.client.connected_url
        return _address(url.netloc) if url is not None else ""

    async def open(self, inlets: Iterable[Inlet]) -> None:
        """Connect and subscribe.

        Raises:
            BusUnavailable: nothing usable answers.
            PermissionDenied: the broker does not take these credentials.
        """
        try:
            async with asyncio.timeout(self._options.timeout_s):
                await _heeding(self._connect())
                for inlet in tuple(inlets):
                    self._inlets.append(inlet)
                    await inlet.attach(self.client)
                await self.flush()
        except TimeoutError as error:
            await self.discard()
            raise _unreachable(self._options, "no answer in time; is it a NATS server?") from error
        except BaseException as error:
            await self.discard()
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task and not task.cancelling():
                # One of the client's own futures was cancelled, and nobody cancelled us.
                raise _unreachable(self._options, "the connection broke while it was made") from error
            raise

    async def flush(self) -> None:
        """Wait for a round trip.

        Raises:
            BusUnavailable: the connection broke first, or no answer came in time.
        """
        # Whoever comes before the ping is written shares it: what he wrote goes out before it.
        if self._next_flush is None:
            self._next_flush = self._begin(self._flush())
        await self._end(self._next_flush)

    async def _flush(self) -> None:
        self._next_flush = None
        await self.client.flush(timeout=_FLUSH_S)

    async def finish(self, exchange: Coroutine[Any, Any, None]) -> None:
        """Wait for an exchange with pings, which goes on behind a caller that waits no longer.

        The client's read loop ends on a pong whose waiter has been cancelled.

        Raises:
            BusUnavailable: the connection broke first, or no answer came in time.
        """
        await self._end(self._begin(exchange))

    def _begin(self, exchange: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(exchange)
        self._exchanges.add(task)
        task.add_done_callback(self._ended)
        if self.lost.is_set():
            task.cancel()
        return task

    async def _end(self, task: asyncio.Task[None]) -> None:
        done, _ = await asyncio.wait({task}, timeout=self._options.timeout_s)
        if not done:
            raise BusUnavailable("the broker did not answer in time")
        if task.cancelled() or task.exception() is not None:
            raise BusUnavailable("the connection broke before the broker answered")

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._exchanges.discard(task)
        if not task.cancelled():
            task.exception()

    def lose(self) -> None:
        """Take the session as lost; says so once."""
        if self.lost.is_set():
            return
        self.lost.set()
        for exchange in tuple(self._exchanges):
            exchange.cancel()
        self._on_lost(self)

    async def discard(self) -> None:
        """Close the client with its subscriptions."""
        was_alive = self.alive
        self.lost.set()
        for exchange in tuple(self._exchanges):
            exchange.cancel()
        for inlet in self._inlets:
            await inlet.detach()
        if not was_alive:
            _abort(self.client)
        # A client writes what it had left when it closes. On an aborted socket that goes nowhere, and the client
        # complains (with a RuntimeError on uvloop); that is all there is to it.
        # In a task of its own, because the client waits for the socket's future, which may have been cancelled with one
        # of the client's tasks: that would then end whoever closes.
        closing = asyncio.create_task(self._close())
        try:
            await asyncio.wait((closing,), timeout=_CLOSE_S)
        finally:
            closing.cancel()

    async def _close(self) -> None:
        with suppress(nats.errors.Error, OSError, RuntimeError):
            await self.client.close()

    async def _connect(self) -> None:
        try:
            tls = await tls_for(self._options.servers)
            await self.client.connect(
                servers=self._options.servers,
                dont_randomize=True,
                tls=tls,
                name=self._options.name,
                inbox_prefix=self._options.inbox_prefix,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                closed_cb=self._on_closed,
                # One server that hangs must not take the time of the others.
                connect_timeout=max(1, int(self._options.timeout_s / len(self._options.servers))),
                ping_interval=_PING_S,
                max_outstanding_pings=_MAX_PINGS,
                pending_size=-1,
            )
        except (nats.errors.Error, OSError) as error:
            raise _refusal(self._options, error) from error
        finally:
            self._dialling = False

    async def _on_error(self, error: Exception) -> None:
        if self._dialling:
            # The client dials for ever; raising here is what ends the attempt, once every server has been tried.
            self._refusals += 1
            if self._refusals >= len(self._options.servers):
                raise _refusal(self._options, error) from error
            return
        if not self.lost.is_set() and not isinstance(error, nats.errors.StaleConnectionError | OSError):
            self._report(error)

    async def _on_disconnected(self) -> None:
        self.lose()
        if not self.client.is_closed:
            # Held here until the client is closed, the client's own reconnect never begins.
            await asyncio.Event().wait()

    async def _on_closed(self) -> None:
        self.lose()


async def _heeding(work: Coroutine[Any, Any, None]) -> None:
    """The work, and the cancellation that came meanwhile.

    `asyncio.wait_for`, which the client uses, loses one that comes at the moment what it waits for does (before 3.12).
    """
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    await work
    if task.cancelling() > before:
        raise asyncio.CancelledError


def _abort(client: Client) -> None:
    """Drop the socket with all that waits in it.

    Closing waits until a broker that hangs has taken the rest, and a caller has been told by then that it was not
    sent. The client offers no other way to its socket.
    """
    transport = getattr(client, "_transport", None)
    writer = getattr(transport, "_io_writer", None)
    if writer is not None:
        writer.transport.abort()


def _refusal(options: DialOptions, error: Exception) -> MeshError:
    text = str(error).strip() or type(error).__name__
    if "authorization" in text.lower() or "authentication" in text.lower():
        return PermissionDenied(f"{_shown(options)} does not take these credentials", hint="check user and password")
    return _unreachable(options, text)


def _unreachable(options: DialOptions, reason: str) -> BusUnavailable:
    return BusUnavailable(
        f"no broker at {_shown(options)}: {reason}", hint="start one with `mesh dev`, or name it with --server"
    )


def _shown(options: DialOptions) -> str:
    return ", ".join(server.rpartition("@")[2] for server in options.servers)


def _address(url: str) -> str:
    return url.rpartition("//")[2].rpartition("@")[2]
