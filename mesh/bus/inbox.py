"""Answers to what one connection asks, over a single subscription, each with its own deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from mesh.bus.connection import Link, Msg
from mesh.errors import BusUnavailable, MeshError, NobodyAnswers, PermissionDenied

_COARSE_S = 0.02

Collect = Callable[[Msg], bool]
"""Takes one of several answers to a request; True when it was the last."""


class _Waiter:
    __slots__ = ("collect", "deadline", "future", "subject")

    def __init__(self, future: asyncio.Future[Msg], subject: str, deadline: float, collect: Collect | None) -> None:
        self.future = future
        self.subject = subject
        self.deadline = deadline
        self.collect = collect

    def fail(self, error: MeshError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Inbox:
    """Every request of a connection that waits for its answer.

    When the connection breaks, all of them fail at once: what became of them is unknown. Whoever asks a stream tells
    the `link` whether it answered.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self._prefix = f"{link.inbox}."
        self._cut = len(self._prefix)
        self._count = 0
        self._waiting: dict[str, _Waiter] = {}
        self._sweep_at = 0.0
        self._sweep: asyncio.TimerHandle | None = None
        link.on_lost(self._lost)
        link.on_denied(self._denied)

    async def open(self) -> None:
        """Subscribe; once, before the first request."""
        await self.link.subscribe(self._prefix + "*", self._answer)

    async def ask(
        self,
        subject: str,
        data: bytes,
        *,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        collect: Collect | None = None,
    ) -> Msg:
        """Send a request and wait for its answer, or for the last of several.

        Without a `timeout_s` of its own it has that of its connection.

        Raises:
            NobodyAnswers: nobody answers this subject.
            BusUnavailable: no answer in time, or the connection broke.
            PermissionDenied: the broker refused the subject to this user.
            TooLarge: the message is larger than the broker takes.
        """
        loop = asyncio.get_running_loop()
        self._count += 1
        token = str(self._count)
        deadline = loop.time() + (self.link.timeout_s if timeout_s is None else timeout_s)
        future: asyncio.Future[Msg] = loop.create_future()
        self._waiting[token] = _Waiter(future, subject, deadline, collect)
        try:
            await self.link.publish(subject, data, reply=self._prefix + token, headers=headers)
            if self._sweep is None or deadline < self._sweep_at:
                self._arm(deadline)
            answer = await future
        finally:
            del self._waiting[token]
        if _says_nobody(answer):
            raise NobodyAnswers(f"nobody answers {subject}", hint="the stream or service behind it is not there")
        return answer

    async def request(self, subject: str, data: bytes, *, timeout_s: float, accept: Callable[[bytes], bool]) -> Msg:
        """Ask, and wait for the first answer that is accepted; raises as `ask` does."""

        def is_it(answer: Msg) -> bool:
            return _says_nobody(answer) or accept(answer.data)

        return await self.ask(subject, data, timeout_s=timeout_s, collect=is_it)

    def close(self) -> None:
        """Fail what still waits."""
        self._lost()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _answer(self, message: Msg) -> None:
        waiter = self._waiting.get(message.subject[self._cut :])
        if waiter is None or waiter.future.done():
            return
        if waiter.collect is None or waiter.collect(message):
            waiter.future.set_result(message)

    def _arm(self, deadline: float) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep_at = deadline
        self._sweep = asyncio.get_running_loop().call_at(deadline, self._sweep_now)

    def _sweep_now(self) -> None:
        """Fail what is overdue; one timer serves all, because a timer for each would cost more than the publish."""
        self._sweep = None
        now = asyncio.get_running_loop().time()
        following = float("inf")
        for waiter in self._waiting.values():
            if waiter.deadline <= now:
                waiter.fail(BusUnavailable(f"no answer from {waiter.subject} in time"))
            elif waiter.deadline < following:
                following = waiter.deadline
        if following != float("inf"):
            self._arm(max(following, now + _COARSE_S))

    def _lost(self) -> None:
        for waiter in self._waiting.values():
            waiter.fail(BusUnavailable(f"the connection broke while {waiter.subject} was on its way"))

    def _denied(self, kind: str, subject: str) -> bool:
        waiting = [one for one in self._waiting.values() if kind == "publish" and one.subject.lower() == subject]
        for waiter in waiting:
            waiter.fail(PermissionDenied(f"this user may not publish to {waiter.subject}"))
        return bool(waiting)


def _says_nobody(answer: Msg) -> bool:
    return not answer.data and (answer.headers or {}).get("Status") == "503"
