"""A task as it is shown while it runs: text on stdout, the rest on stderr; or JSON lines."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Protocol

import msgspec

from mesh.cli.notes import Notes
from mesh.cli.outcome import EXIT_OF
from mesh.cli.output import Outlet
from mesh.cli.steps import StepNotes, usage_in_words
from mesh.client import Result, result_of
from mesh.log.merge import TaskEvent, Text, TextDiscarded
from schemas.error import Error
from schemas.step import ArtifactAdded
from schemas.task import SUSPENDED, TERMINAL, CancelRequested, TaskCanceled

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')


Restore = Callable[[Result], Awaitable[Result]]


class Printer(Protocol):
    """Shows one task."""

    async def event(self, event: TaskEvent) -> None:
        """Shows one event of its tail."""

    async def result(self, result: Result, last: TaskEvent) -> None:
        """Shows how it ended."""


class Follower:
    """Where a tail stands, for whoever waits beside it."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.cursor: str | None = None

    async def follow(self, events: AsyncGenerator[TaskEvent], printer: Printer, restore: Restore) -> int:
        """Shows a task to its end, a large output too; the exit code that stands for it."""
        artifacts: list[ArtifactAdded] = []
        async with aclosing(events):
            async for event in events:
                await printer.event(event)
                self.cursor = event.cursor
                if isinstance(event.data, ArtifactAdded):
                    artifacts.append(event.data)
                if event.type in TERMINAL:
                    result = await restore(result_of(self.id, event, tuple(artifacts)))
                    await printer.result(result, event)
                    return EXIT_OF[result.state]
        raise AssertionError("a tail ends with the terminal event")


class JsonPrinter:
    """One object per event, and one with the result at the end."""

    def __init__(self, out: Outlet) -> None:
        self._out = out

    async def event(self, event: TaskEvent) -> None:
        await self._line({"cursor": event.cursor, "type": event.type, "at": event.at, "data": event.data})

    async def result(self, result: Result, last: TaskEvent) -> None:
        await self._line({"cursor": last.cursor, "type": "result", "at": last.at, "data": result})

    async def _line(self, value: dict[str, Any]) -> None:
        await self._out.write(msgspec.json.encode(value).decode() + "\n")


class TextPrinter:
    """The agent's text on stdout, as it streams; then its output, unless the text ended with it.

    A program that reads gets the output alone where that is data: the text beside it would not let it be parsed.
    `writes_text` says which, and is asked once there is text.
    """

    def __init__(self, out: Outlet, notes: Notes, writes_text: Callable[[], Awaitable[bool]]) -> None:
        self._out = out
        self._notes = notes
        self._writes_text = writes_text
        self._shows_text: bool | None = None if out.piped else True
        self._steps = StepNotes(notes)
        self._pieces: list[tuple[tuple[str, int], str]] = []
        self._begun: set[str] = set()
        self._asked = ""

    async def event(self, event: TaskEvent) -> None:
        data = event.data
        if isinstance(data, Text):
            if data.kind == "text" and await self._is_shown():
                await self._text(data)
        elif isinstance(data, TextDiscarded):
            if not await self._is_shown():
                return
            self._discard((data.step, data.part), data.length)
            self._notes.warn(f"the last {data.length} characters are discarded: the attempt that wrote them died")
        elif isinstance(data, ArtifactAdded):
            self._notes.say(f"artifact {data.name} ({data.size} bytes)")
        elif isinstance(data, CancelRequested):
            self._asked = data.reason
        elif event.type == SUSPENDED and data.error is not None:
            self._notes.warn(f"suspended: {data.error.message}")
        else:
            self._steps.event(data)

    async def result(self, result: Result, last: TaskEvent) -> None:
        if result.output is not None:
            await self._output(result.output)
        if self._notes.in_line:
            await self._write("\n")
        if result.usage is not None and result.usage.requests > 1:
            self._notes.say(f"used  {result.usage.requests} model requests: {usage_in_words(result.usage)}")
        if result.error is not None:
            self._error(result)
        elif isinstance(last.data, TaskCanceled):
            self._notes.warn(f"canceled: {self._asked or last.data.reason or 'on request'}")

    async def _is_shown(self) -> bool:
        if self._shows_text is None:
            self._shows_text = await self._writes_text()
        return self._shows_text

    async def _text(self, data: Text) -> None:
        """Text as it comes; what another model step says begins on a line of its own."""
        if self._begun and data.step and data.step not in self._begun and self._notes.in_line:
            await self._write("\n")
        self._begun.add(data.step)
        self._pieces.append(((data.step, data.part), data.text))
        await self._write(data.text)

    async def _output(self, output: Any) -> None:
        told = "".join(text for _, text in self._pieces)
        if isinstance(output, str):
            shown = plain = output
        else:
            plain = msgspec.json.encode(output).decode()
            shown = msgspec.json.format(plain, indent=2)
        if not told.endswith((plain, shown)):
            await self._write(f"\n{shown}" if self._notes.in_line else shown)

    async def _write(self, text: str) -> None:
        await self._out.write(text)
        if text:
            self._notes.in_line = not text.endswith("\n")

    def _discard(self, part: tuple[str, int], length: int) -> None:
        for index in range(len(self._pieces) - 1, -1, -1):
            key, text = self._pieces[index]
            if length and key == part:
                cut = min(length, len(text))
                self._pieces[index] = (key, text[: len(text) - cut])
                length -= cut

    def _error(self, result: Result) -> None:
        error = result.error
        assert error is not None
        hint = error.hint or (f"mesh show {result.id}" if result.state == "failed" else None)
        self._notes.error(f"{result.state}: {error.message} ({error.code}){_place(error)}", hint)


def _place(error: Error) -> str:
    """The innermost line of the user's code, where the handler raised."""
    trace = (error.details or {}).get("traceback")
    frames = _FRAME.findall(trace) if isinstance(trace, str) else []
    return "\n  at {}:{} in {}".format(*frames[-1]) if frames else ""
