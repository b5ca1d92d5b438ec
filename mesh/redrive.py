"""Dead letters as an operator handles them: looked through, published again, removed.

What is published again runs once, however often and by however many at the same time. A submit becomes a task whose id
follows from the letter, so a second one finds the first; every other command is only a hint, and the log of its task
knows what it has done already. The letter is removed after the broker has stored what it was about.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import hashlib
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from mesh.bus import Bus, StoredMessage
from mesh.errors import InvalidInput, MeshError
from mesh.log import dead_letters
from mesh.log.reading import read_log
from mesh.registry import FreshRegistry
from mesh.subjects import Subjects
from schemas.command import DeadLetter, Refusal, Submit, parse_submit
from schemas.error import INVALID_INPUT, Error
from schemas.ids import is_name, ulid
from schemas.instant import unix
from schemas.task import TaskAccepted
from schemas.unreadable import UNREADABLE

PAGE: Final = 50
# What the broker set, or what was an order to it, and is none any more.
_OF_THE_BROKER: Final = "nats-"
COMMANDS: Final = ("submit", "run", "call", "signal", "ended", "fired")
_decode = msgspec.json.Decoder(DeadLetter).decode


class Letter(Struct, frozen=True):
    """One dead letter: its number, by which it is asked for, and when and as what it was put there."""

    number: int
    kind: str
    buried_at: str
    letter: DeadLetter

    @property
    def is_task(self) -> bool:
        """Whether it is about a task, or one that never came to be; to redrive it makes a new task."""
        return self.kind == dead_letters.ATTEMPTS_EXHAUSTED or self.source == "submit"

    @property
    def source(self) -> str:
        """What its message was: `submit`, `run`, `call`, `signal`, `fired`, or `task` for the task itself."""
        return self.letter.subject.split(".", 2)[1] if "." in self.letter.subject else ""

    @property
    def body(self) -> bytes:
        """The original body, or the beginning of one that did not fit."""
        if self.letter.encoding != "base64":
            return self.letter.body.encode()
        try:
            return base64.b64decode(self.letter.body, validate=True)
        except binascii.Error:
            return b""

    @property
    def cut(self) -> bool:
        """Whether the body is not all there."""
        return len(self.body) != self.letter.size


class Page(Struct, frozen=True):
    """Some letters, the oldest first; with `next` the following page begins, if there is one."""

    letters: tuple[Letter, ...]
    next: int | None = None


class Redriven(Struct, frozen=True, omit_defaults=True):
    """What became of a letter: where it was published again, and the task that it is now."""

    number: int
    subject: str
    task: str = ""


class DeadLetters:
    """The dead letters of one mesh."""

    def __init__(self, bus: Bus, names: Subjects) -> None:
        self._bus = bus
        self._names = names
        self._registry = FreshRegistry(bus, names)

    async def page(self, *, first: int = 1, limit: int = PAGE, kind: str | None = None) -> Page:
        """At most `limit` letters from number `first` on, of one kind or of all; raises BusUnavailable."""
        wanted = self._names.dead(kind or "*", ">")
        found = await self._bus.batch(self._names.dead_letters, wanted, first=first, count=limit + 1)
        more = found[limit].seq if len(found) > limit else None
        return Page(tuple(_letter(message) for message in found[:limit]), more)

    async def get(self, number: int) -> Letter:
        """One letter; raises MeshError if there is none, BusUnavailable."""
        message = await self._bus.get(self._names.dead_letters, number) if number > 0 else None
        if message is None:
            raise MeshError(
                f"there is no dead letter {number}",
                hint="it may have been redriven or removed; `mesh dead ls` shows those there are",
            )
        return _letter(message)

    async def redrive(self, letter: Letter, *, agent: str | None = None) -> Redriven:
        """Publishes again what a letter is about, then removes the letter; `agent` gets the task instead of its own.

        *Delivery:* may be repeated after any failure, and by several at once; it runs once.

        Raises: InvalidInput for what cannot be published again, and while nobody has its agent: the task would be
        rejected and its input lost with the letter. UnknownTask if the log it is about is gone, BusUnavailable.
        """
        if letter.is_task:
            redriven = await self._submit(letter, agent)
        elif agent is not None:
            raise InvalidInput(f"dead letter {letter.number} is no task, so no agent can have it")
        else:
            redriven = await self._publish(letter)
        await self.remove(letter)
        return redriven

    async def remove(self, letter: Letter) -> bool:
        """Removes a letter; False if it was gone."""
        return await self._bus.delete(self._names.dead_letters, letter.number)

    async def _publish(self, letter: Letter) -> Redriven:
        subject = letter.letter.subject
        _check_whole(letter)
        if not subject.startswith(tuple(f"{self._names.prefix}.{kind}." for kind in COMMANDS)):
            raise InvalidInput(f"dead letter {letter.number} does not say which command it is about")
        kept = letter.letter.headers or {}
        headers = {name: value for name, value in kept.items() if not name.lower().startswith(_OF_THE_BROKER)}
        headers["Nats-Msg-Id"] = f"redrive:{letter.number}"
        await self._bus.publish(subject, letter.body, headers=headers)
        return Redriven(letter.number, subject)

    async def _submit(self, letter: Letter, agent: str | None) -> Redriven:
        if letter.kind == dead_letters.ATTEMPTS_EXHAUSTED:
            name, keys = await self._of_task(letter)
        else:
            _check_whole(letter)
            name = letter.letter.subject.removeprefix(self._names.submit(""))
            keys = _of_submit(letter, name)
        name = agent or name
        if not is_name(name):
            raise InvalidInput(f"'{name}' is no name an agent can have", hint="name one that can: --agent NAME")
        await self._check_agent(letter, name)
        subject = self._names.submit(name)
        await self._bus.publish(subject, msgspec.json.encode(keys))
        return Redriven(letter.number, subject, keys["task_id"])

    async def _check_agent(self, letter: Letter, name: str) -> None:
        agents = (await self._registry.look()).agents
        if name not in agents:
            near = difflib.get_close_matches(name, agents, n=1)
            start = f"did you mean '{near[0]}'?" if near else "start an executor that has it, or name another"
            raise InvalidInput(
                f"no agent '{name}' is registered, so dead letter {letter.number} stays",
                hint=f"{start}: mesh dead redrive {letter.number} --agent NAME; `mesh agent ls` lists them",
            )

    async def _of_task(self, letter: Letter) -> tuple[str, dict[str, Any]]:
        """The submit of a task that has failed, under an id that follows from the task's."""
        task = letter.letter.task
        opening = (await read_log(self._bus, self._names, task))[0].commit.events[0].data
        if not isinstance(opening, TaskAccepted):
            raise InvalidInput(f"the log of task '{task}' does not begin with its admission")
        keys = _keys(
            Submit(
                input=UNSET if opening.input_ref else opening.input, input_ref=opening.input_ref,
                context_id=opening.context_id, owner=opening.owner, deadline_s=opening.deadline_s,
                metadata=opening.metadata,
            ),
            opening.unknown,
        )  # fmt: skip
        return opening.agent, _renewed(letter, keys, f"task/{task}", task)


def _of_submit(letter: Letter, agent: str) -> dict[str, Any]:
    """The submit that a letter is about.

    One that nobody could take keeps its id. Another gets a new one: under its own there is, or may have been, a task.
    """
    read = parse_submit(agent, letter.body)
    if isinstance(read, Refusal):
        raise InvalidInput(f"dead letter {letter.number} is no submit: {read.error.message}", hint=read.error.hint)
    keys = _keys(read.submit, read.unknown)
    if letter.kind == dead_letters.INVALID_SUBJECT and read.submit.task_id:
        return keys
    about = letter.letter
    return _renewed(letter, keys, f"{about.subject}/{about.sequence}/{about.at}", read.submit.task_id)


def _keys(submit: Submit, unknown: dict[str, Any] | None) -> dict[str, Any]:
    keys: dict[str, Any] = msgspec.to_builtins(submit)
    return (unknown or {}) | keys


def _renewed(letter: Letter, keys: dict[str, Any], identity: str, task: str | None) -> dict[str, Any]:
    """A submit under a new id that names what it repeats; made of the original alone, so all repeats are the same."""
    about = letter.letter
    origin = {"reason": letter.kind, "at": about.at} | ({"task": task} if task else {"subject": about.subject})
    try:
        milliseconds = int(unix(about.at) * 1000)
    except ValueError as error:
        raise InvalidInput(f"dead letter {letter.number} does not say when its message was stored") from error
    keys["task_id"] = ulid(milliseconds, hashlib.sha256(f"redrive/{identity}".encode()).digest())
    keys["metadata"] = (keys.get("metadata") or {}) | {"redriven": origin}
    return keys


def _check_whole(letter: Letter) -> None:
    if letter.cut:
        raise InvalidInput(
            f"dead letter {letter.number} holds {len(letter.body)} of the {letter.letter.size} bytes of its message",
            hint="send the original again from where it came",
        )


def _letter(message: StoredMessage) -> Letter:
    try:
        letter = _decode(message.data)
    except UNREADABLE as error:
        unreadable = Error(code=INVALID_INPUT, message=f"this dead letter cannot be read: {error}")
        letter = DeadLetter(v=0, task=dead_letters.NO_TASK, error=unreadable, subject="", at=message.at)
    kind = message.subject.split(".")[2]
    return Letter(message.seq, kind, message.at, letter)
