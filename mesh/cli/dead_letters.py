"""The work of `mesh dead`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import msgspec
import typer

from mesh.cli.listings import Part, show_pages
from mesh.cli.notes import Notes
from mesh.cli.outcome import COMPLETED, FAILED
from mesh.cli.places import operated
from mesh.cli.plain import plain
from mesh.errors import BusUnavailable, InvalidInput, MeshError
from mesh.log import dead_letters
from mesh.redrive import DeadLetters, Letter

MAX_BODY_CHARS: Final = 2000
MAX_REASON_CHARS: Final = 100
NEXT: Final = {
    dead_letters.ATTEMPTS_EXHAUSTED: "see why its workers died: mesh show {task}, and their own logs. Once that is "
    "mended, a redrive makes a new task with the same input",
    dead_letters.DUPLICATE_ID: "see whether the other one is what was wanted: mesh show {task}. If this one is wanted "
    "too, a redrive makes a task of it under an id of its own",
    dead_letters.EXPIRED: "its task may have run and been purged. If it should run now, redrive it",
    dead_letters.INVALID_SUBJECT: "if it was a submit, redrive it to an agent that there is: --agent NAME",
}
OTHERWISE: Final = "once a service runs that understands it, redrive it; it is published again as it was"


async def list_letters(kind: str | None, *, limit: int, server: str | None, json: bool) -> int:
    """Prints one line per letter, and whether there are more; the exit code."""
    _check_kind(kind)
    async with operated(server, "dead") as (bus, names):
        letters = DeadLetters(bus, names)

        async def page(limit: int, token: str | None) -> Part[Letter]:
            found = await letters.page(first=int(token or 1), limit=limit, kind=kind)
            return Part(found.letters, str(found.next) if found.next else None)

        shown = await show_pages(page, limit, lambda letter: msgspec.json.encode(letter) if json else _line(letter))
    if not shown:
        Notes().say("there are no dead letters" + (f" of kind {kind}" if kind else ""))
    return COMPLETED


async def show_letter(number: int, *, server: str | None, json: bool) -> int:
    """Prints one letter; the exit code."""
    async with operated(server, "dead") as (bus, names):
        letter = await DeadLetters(bus, names).get(number)
    typer.echo(msgspec.json.encode(letter) if json else "\n".join(_in_full(letter)))
    return COMPLETED


async def redrive_letters(
    numbers: list[int], kind: str | None, *, agent: str | None, server: str | None, json: bool
) -> int:
    """Redrives each, goes on after one that cannot be; the exit code."""

    async def redrive(letters: DeadLetters, letter: Letter) -> None:
        done = await letters.redrive(letter, agent=agent)
        words = f"task {done.task}" if done.task else f"published again on {done.subject}"
        typer.echo(msgspec.json.encode(done) if json else f"{letter.number}: {words}")

    return await _each(numbers, kind, server, redrive)


async def remove_letters(numbers: list[int], kind: str | None, *, server: str | None) -> int:
    """Removes each; the exit code."""

    async def remove(letters: DeadLetters, letter: Letter) -> None:
        await letters.remove(letter)
        typer.echo(f"{letter.number}: removed")

    return await _each(numbers, kind, server, remove)


async def _each(
    numbers: list[int], kind: str | None, server: str | None, act: Callable[[DeadLetters, Letter], Awaitable[None]]
) -> int:
    notes, failed = Notes(), False
    async with operated(server, "dead") as (bus, names):
        letters = DeadLetters(bus, names)
        async for number in _chosen(letters, numbers, kind):
            try:
                await act(letters, await letters.get(number))
            except BusUnavailable:
                raise
            except MeshError as error:
                notes.error(error.message, error.hint)
                failed = True
    return FAILED if failed else COMPLETED


async def _chosen(letters: DeadLetters, numbers: list[int], kind: str | None) -> AsyncIterator[int]:
    """The letters that are named, or all of a kind that are there now."""
    if bool(numbers) == bool(kind):
        raise InvalidInput("name letters by their numbers, or all of a kind: --kind KIND", hint="`mesh dead ls`")
    _check_kind(kind)
    for number in numbers:
        yield number
    if not kind:
        return
    found: list[int] = []
    first: int | None = 1
    # All of them first: a redrive may bury the same message again.
    while first is not None:
        page = await letters.page(first=first, kind=kind)
        found += [letter.number for letter in page.letters]
        first = page.next
    for number in found:
        yield number


def _check_kind(kind: str | None) -> None:
    if kind is not None and kind not in dead_letters.KINDS:
        raise InvalidInput(f"{kind!r} is no kind of dead letter", hint=f"kinds are {', '.join(dead_letters.KINDS)}")


def _line(letter: Letter) -> str:
    reason = plain(letter.letter.error.message)
    reason = reason if len(reason) <= MAX_REASON_CHARS else f"{reason[:MAX_REASON_CHARS]}…"
    return f"{letter.number:>6}  {letter.buried_at[:19]}  {letter.kind:18}  {plain(letter.letter.task)}  {reason}"


def _in_full(letter: Letter) -> list[str]:
    about = letter.letter
    hint = [f"         {plain(about.error.hint)}"] if about.error.hint else []
    next_step = NEXT.get(letter.kind, OTHERWISE).format(task=plain(about.task))
    return [
        f"dead letter {letter.number}, {letter.kind}, since {letter.buried_at}",
        f"reason   {plain(about.error.message)} ({about.error.code})",
        *hint,
        f"task     {plain(about.task)}",
        f"subject  {plain(about.subject)}, of {about.at}",
        *(f"header   {plain(name)}: {plain(value)}" for name, value in (about.headers or {}).items()),
        *_body(letter),
        f"next     {next_step}",
        f"         mesh dead redrive {letter.number}",
        f"         mesh dead rm {letter.number}",
    ]


def _body(letter: Letter) -> list[str]:
    size = letter.letter.size
    if not size:
        return ["body     none"]
    text = letter.body.decode(errors="backslashreplace")
    lines = [f"         {plain(line)}" for line in text[:MAX_BODY_CHARS].splitlines()]
    kept = ", of which the beginning is kept" if letter.cut else ""
    rest = ["         … the rest: --json"] if len(text) > MAX_BODY_CHARS else []
    return [f"body     {size} bytes{kept}", *lines, *rest]
