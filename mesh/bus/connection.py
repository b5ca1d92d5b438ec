"""A guarded connection: redialled for ever, and nothing is ever sent late.

A broken connection is thrown away with everything it had not sent, and a new client takes its place. The client
library's own reconnect is not used: it keeps unsent publishes and sends them to the next broker, and it gives up for
good on some errors.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress

import nats.errors

from mesh.bus.arrival import Msg
from mesh.bus.ending import end
from mesh.bus.session import DialOptions, Inlet, Session
from mesh.errors import BusUnavailable, InvalidInput, MeshError, PermissionDenied, TooLarge

__all__ = ["Inlet", "Link", "Msg"]

_log = logging.getLogger(__name__)
_REDIAL_S = 0.2
_WATCH_S = 1.0
# About as long as a cluster takes to elect a leader.
_SILENT_S = 5.0
_DENIED = re.compile(r'permissions violation for (publish|subscription)[^"]*"([^"]*)"')


def inbox_prefix(name: str) -> str:
    """The subject below which a service of this name gets its answers.

    It is the same for every replica, `executor-01j…` and `executor-01k…` alike, so that permissions can name it.
    """
    service = re.match(r"[A-Za-z0-9_]*", name)
    return f"_INBOX_{service.group()}" if service and service.group() else "_INBOX"


def without_secrets(url: str) -> str:
    """The URL of one server or of several as it may be shown."""
    return ",".join(re.sub(r"^([a-z+]+://)?.*@", r"\1", part) for part in url.split(","))


class Link:
    """One connection to the broker, kept alive until it is closed.

    `timeout_s` bounds every wait for the broker: a dial, a round trip, a request that has no time-out of its own. One
    that stands `behind` another is lost with it, and comes back after it.
    """

    def __init__(self, url: str, name: str, *, timeout_s: float, behind: Link | None = None) -> None:
        self.url = url
        self.name = name
        self.timeout_s = timeout_s
        self.inbox = f"{inbox_prefix(name)}.{secrets.token_hex(8)}"
        self._options = DialOptions(
            servers=[part.strip() for part in url.split(",")],
            name=name,
            inbox_prefix=inbox_prefix(name),
            timeout_s=timeout_s,
        )
        self._session: Session | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._closed = False
        self._up = asyncio.Event()
        self._inlets: set[Inlet] = set()
        self._silent_since: float | None = None
        self._on_lost: list[Callable[[], None]] = []
        self._on_back: list[Callable[[], None]] = []
        self._on_denied: list[Callable[[str, str], bool]] = []
        self._behind = behind
        if behind is not None:
            behind.on_lost(self._lose)

    @property
    def connected(self) -> bool:
        """Whether a write would reach a socket now."""
        return self._up.is_set() and self._session is not None and self._session.alive

    @property
    def backlog(self) -> int:
        """Bytes that wait to be handed to the socket."""
        return self._session.client.pending_data_size if self._session is not None else 0

    @property
    def session(self) -> Session:
        """The connection as it is now.

        Raises:
            BusUnavailable: there is none; it is being dialled again.
        """
        if self._session is None or not self._session.alive:
            reason = "the connection is closed" if self._closed else "the connection to the broker is lost"
            raise BusUnavailable(reason, hint=f"{without_secrets(self.url)} is dialled until it answers")
        return self._session

    async def wait_connected(self) -> None:
        """Wait until the link is up; raises BusUnavailable if it has been closed for good."""
        while not self.connected:
            if self._closed:
                raise BusUnavailable("this connection is closed")
            if self._up.is_set() and self._session is not None:
                # The client knows of its loss before it tells; waiting without a pause would never let it tell.
                self._session.lose()
                self._up.clear()
            await self._up.wait()

    def on_lost(self, callback: Callable[[], None]) -> None:
        """Call at the moment the connection breaks."""
        self._on_lost.append(callback)

    def on_back(self, callback: Callable[[], None]) -> None:
        """Call when a broken connection stands again with its subscriptions."""
        self._on_back.append(callback)

    def on_denied(self, callback: Callable[[str, str], bool]) -> None:
        """Call with `publish` or `subscription` and the subject in lower case; it says whether somebody was told.

        The broker's refusal reaches a client in lower case only.
        """
        self._on_denied.append(callback)

    def answered(self) -> None:
        """A stream has answered, and so does the server for the cluster."""
        self._silent_since = None

    def unanswered(self) -> None:
        """A stream has not answered.

        A server that is cut off from its cluster keeps its clients and can do nothing for them. So after some seconds
        without any answer another one is dialled, where more than one is known.
        """
        now = asyncio.get_running_loop().time()
        if self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since > _SILENT_S and len(self._options.servers) > 1 and self._session is not None:
            self._silent_since = None
            _log.warning("no stream answers here, dialling on", extra={"link": self.name})
            self._session.lose()

    async def open(self) -> None:
        """Dial once, then keep the connection.

        Raises:
            BusUnavailable: nothing answers; the link stays closed and may be opened again.
            PermissionDenied: the broker does not take these credentials.
        """
        session = Session(self._options.starting_elsewhere(""), lost=self._lost, report=self._report)
        await session.open(self._inlets)
        self._session = session
        self._up.set()
        # In a context of its own: a link that is opened inside a handler would log that task's id for ever.
        self._supervisor = asyncio.create_task(
            self._supervise(session), name=f"link {self.name}", context=contextvars.Context()
        )

    async def aclose(self) -> None:
        """Close for good; what was written goes out first."""
        self._closed = True
        supervisor, self._supervisor = self._supervisor, None
        try:
            if supervisor is not None:
                await end(supervisor)
        finally:
            session, self._session = self._session, None
            self._up.set()  # whoever waits for the link learns that it is closed
            if session is not None:
                await session.discard()

    async def publish(
        self, subject: str, data: bytes, *, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Hand one message to the socket's buffer, or fail at once.

        Raises:
            BusUnavailable: there is no connection.
            TooLarge: the broker would close the connection over it.
            InvalidInput: the subject or a header cannot be sent.
        """
        session = self.session
        size = len(data) if headers is None else len(data) + _header_size(headers)
        if size > session.client.max_payload:
            raise TooLarge(f"{size} bytes for {subject}", hint=f"the broker takes {session.client.max_payload}")
        try:
            await session.client.publish(subject, data, reply, headers)  # type: ignore[arg-type]
        except (nats.errors.BadSubjectError, nats.errors.BadHeaderError) as error:
            raise InvalidInput(f"not a subject or header that can be sent: {subject!r}") from error
        except (nats.errors.Error, OSError, RuntimeError) as error:
            # uvloop says RuntimeError for a socket that closed a moment ago.
            raise BusUnavailable(f"{subject} was not sent: {error}") from error

    async def flush(self) -> None:
        """Wait until the broker has everything written so far.

        Raises:
            BusUnavailable: the connection broke first, or no answer came in time.
        """
        await self.session.flush()

    async def subscribe(
        self,
        subject: str,
        callback: Callable[[Msg], None],
        *,
        on_gap: Callable[[], None] | None = None,
        queue: str = "",
    ) -> Inlet:
        """Listen to a subject, over reconnects too; the broker has it on return.

        Of those who listen under the same `queue` name each message reaches one.

        Raises:
            BusUnavailable: there is no connection, it broke meanwhile, or no answer came in time.
            PermissionDenied: this user may not listen there.
        """
        inlet = Inlet(subject, callback, on_gap, queue)
        session = self.session
        self._inlets.add(inlet)
        try:
            await inlet.attach(session.client)
            await session.flush()
            if inlet.denied:
                raise PermissionDenied(f"this user may not subscribe to {subject}")
        except BaseException:
            await self.unsubscribe(inlet)
            raise
        return inlet

    async def unsubscribe(self, inlet: Inlet) -> None:
        """Stop listening; what is still on its way is dropped."""
        self._inlets.discard(inlet)
        await inlet.detach()

    async def drain(self, inlet: Inlet) -> None:
        """Stop listening once everything that is on its way has been taken.

        Raises:
            BusUnavailable: the connection broke first, or no answer came in time.
        """
        self._inlets.discard(inlet)
        await inlet.drain(self.session)

    async def _supervise(self, session: Session) -> None:
        # The client may swallow a cancellation, so the flag is looked at as well.
        while not self._is_closed():
            while session.alive:
                # A client can die without a word to its callbacks, so its state is looked at now and then.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_WATCH_S):
                        await session.lost.wait()
            session.lose()
            left = session.server
            await session.discard()
            session = await self._redial(left)
            self._session = session
            self._silent_since = None
            if self._is_closed():
                return
            self._up.set()
            _log.info("connected again", extra={"link": self.name})
            for callback in (*[inlet.report_gap for inlet in tuple(self._inlets)], *self._on_back):
                try:
                    callback()
                except (RuntimeError, ValueError, LookupError) as error:
                    # What is told of the loss may be closing; the next loss must be seen all the same.
                    _log.error("a reconnect was not taken notice of: %r", error, extra={"link": self.name})

    def _is_closed(self) -> bool:
        return self._closed

    async def _redial(self, left: str) -> Session:
        attempts = 0
        while True:
            session = Session(self._options.starting_elsewhere(left), lost=self._lost, report=self._report)
            try:
                if self._behind is not None:
                    await self._behind.wait_connected()
                await session.open(self._inlets)
            except MeshError as error:
                attempts += 1
                level = logging.WARNING if attempts == 1 else logging.DEBUG
                _log.log(level, "broker unreachable, dialling on: %s", error, extra={"link": self.name})
                await asyncio.sleep(_REDIAL_S)
            else:
                return session

    def _lose(self) -> None:
        if self._session is not None:
            self._session.lose()

    def _lost(self, session: Session) -> None:
        if session is not self._session:
            return
        self._up.clear()
        for callback in self._on_lost:
            callback()

    def _report(self, error: Exception) -> None:
        denied = _DENIED.search(str(error).lower())
        if denied is None:
            _log.error("error on the connection", exc_info=error, extra={"link": self.name})
            return
        kind, subject = denied.groups()
        for inlet in self._inlets:
            inlet.denied = inlet.denied or (kind == "subscription" and inlet.subject.lower() == subject)
        told = [callback(kind, subject) for callback in self._on_denied]
        # Whoever waits for an answer says himself what it means; nobody else would hear of the rest.
        level = logging.DEBUG if any(told) else logging.WARNING
        _log.log(level, "the broker refuses: %s", error, extra={"link": self.name})


def _header_size(headers: Mapping[str, str]) -> int:
    size = len("NATS/1.0\r\n\r\n")
    for key, value in headers.items():
        size += len(key) + len(value.encode()) + len(": \r\n")
    return size
