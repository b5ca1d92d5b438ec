"""The work of `mesh show`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import typer

from mesh.cli.outcome import COMPLETED
from mesh.cli.output import Outlet
from mesh.cli.places import connected_bus, readable
from mesh.cli.steps import shown, usage_in_words
from mesh.cli.waiting import waits_for
from mesh.log.head import Entry
from mesh.log.reading import read_log
from mesh.logs import colourful
from mesh.models.usage import total_usage
from mesh.probe import require_mesh
from mesh.registry import Registry, read_registry
from schemas.envelope import Event, Head
from schemas.step import ArtifactAdded, StepCompleted, StepRequested
from schemas.task import TaskAccepted

MAX_VALUE_CHARS: Final = 200


async def show_task(id: str, *, server: str | None, store: Path, json: bool) -> int:
    """Prints the log; the exit code."""
    out = Outlet(sys.stdout)
    async with readable(server, store) as mesh, connected_bus(mesh.url, "show") as bus:
        await require_mesh(bus, mesh.names)
        entries = await read_log(bus, mesh.names, id)
        registry = Registry() if json else await read_registry(bus, mesh.names)
    if json:
        for entry in entries:
            line = msgspec.json.encode({"seq": entry.seq, "commit": entry.commit})
            await out.write(line.decode() + "\n")
        return COMPLETED
    colour = colourful(sys.stdout, os.environ)
    await out.write("\n".join([*_heading(id, entries, registry, colour), *_commits(entries, colour)]) + "\n")
    return COMPLETED


def _heading(id: str, entries: list[Entry], registry: Registry, colour: bool) -> list[str]:
    opening, head = entries[0].commit.events[0].data, entries[-1].commit.head
    state = entries[-1].commit.events[-1].type.removeprefix("task.") if head.phase == "ended" else head.phase
    lines = [f"{_bold('task ' + id, colour)}  {state}"]
    if isinstance(opening, TaskAccepted):
        context = f", context {opening.context_id}" if opening.context_id else ""
        lines.append(f"agent {opening.agent} of pool {opening.pool}, for {opening.owner}{context}")
    if why := waits_for(entries, registry):
        lines.append(why)
    return [*lines, *_summary(id, entries)]


def _summary(id: str, entries: list[Entry]) -> list[str]:
    """What a task used and wrote."""
    events = [event.data for entry in entries for event in entry.commit.events]
    models = {data.step for data in events if isinstance(data, StepRequested) and data.kind == "model"}
    answers = [data for data in events if isinstance(data, StepCompleted) and data.step in models]
    used = usage_in_words(total_usage(answer.usage for answer in answers))
    lines = [f"{len(answers)} model answer{'' if len(answers) == 1 else 's'}: {used}"] if answers else []
    names = list(dict.fromkeys(data.name for data in events if isinstance(data, ArtifactAdded)))
    if names:
        lines.append(f"wrote {', '.join(names)}; fetch one with `mesh artifact get {id} NAME`")
    return lines


def _commits(entries: list[Entry], colour: bool) -> list[str]:
    lines: list[str] = []
    requested: dict[str, StepRequested] = {}
    for entry in entries:
        commit = entry.commit
        lines.append("")
        lines.append(_dim(f"#{entry.seq}  commit {commit.n}  {commit.at}  {commit.by}", colour))
        for event in commit.events:
            lines += _event(event, requested, colour)
        lines.append(_dim(f"  → {_head(commit.head)}", colour))
    return lines


def _event(event: Event, requested: dict[str, StepRequested], colour: bool) -> list[str]:
    if words := shown(event, requested):
        return [f"  {_bold(event.type, colour)}  {words[0]}", *(f"  {line}" for line in words[1:])]
    data = msgspec.json.decode(msgspec.json.encode(event.data))
    values = "  ".join(f"{key}={_value(value)}" for key, value in data.items())
    return [f"  {_bold(event.type, colour)}  {values}".rstrip()]


def _value(value: Any) -> str:
    text = value if isinstance(value, str) and value.isprintable() and " " not in value and value else None
    text = text or msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}… ({len(text)} characters)"


def _head(head: Head) -> str:
    fields = msgspec.to_builtins(head)
    phase = fields.pop("phase", head.phase)
    return " ".join([phase, *(f"{key}={_value(value)}" for key, value in fields.items())])


def _bold(text: str, colour: bool) -> str:
    return typer.style(text, bold=True) if colour else text


def _dim(text: str, colour: bool) -> str:
    return typer.style(text, dim=True) if colour else text
