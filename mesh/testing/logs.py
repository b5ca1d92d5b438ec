"""What a test says about a log and about the tails that followed it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from mesh.log.check import check_log
from mesh.log.head import Entry
from mesh.log.merge import TaskEvent, Text, TextDiscarded
from mesh.log.texts import texts_in
from schemas.envelope import Event

MAX_SHOWN = 200


def assert_invariants(entries: Sequence[Entry], *, ended: bool = True) -> None:
    """Holds a log against its invariants; the error names each violation and shows the log."""
    violations = check_log(entries, ended=ended)
    if violations:
        raise AssertionError("\n".join(["the log breaks its invariants:", *_indented(violations), show_log(entries)]))


def assert_tail(events: Sequence[TaskEvent], entries: Sequence[Entry]) -> None:
    """A tail, or several joined by their cursors, told each event of the log once, in order, and its text."""
    violations = check_tail(events, entries)
    if violations:
        shown = ["the tail differs from the log:", *_indented(violations), show_log(entries), show_tail(events)]
        raise AssertionError("\n".join(shown))


def check_tail(events: Sequence[TaskEvent], entries: Sequence[Entry]) -> list[str]:
    """Every way in which a tail differs from its log."""
    told = [Event(event.type, event.data) for event in events if not isinstance(event.data, Text | TextDiscarded)]
    logged = [event for entry in entries for event in entry.commit.events]
    found = []
    for index, event in enumerate(logged):
        if index >= len(told):
            found.append(f"it ends before event {index}, {_brief(event)}")
            break
        if told[index] != event:
            found.append(f"event {index} is {_brief(told[index])}, the log has {_brief(event)}")
            break
    if len(told) > len(logged):
        found.append(f"it tells {len(told) - len(logged)} events more than the log has")
    texts, wanted = text_of_tail(events), text_of_log(entries)
    found += [
        f"the text of {key} is {texts.get(key, '')!r}, the log has {wanted.get(key, '')!r}"
        for key in sorted(texts.keys() | wanted.keys())
        if texts.get(key, "") != wanted.get(key, "")
    ]
    return found


def text_of_tail(events: Iterable[TaskEvent]) -> dict[tuple[str, int], str]:
    """The text that a reader is left with, by step and part; reasoning and arguments of tool calls are none."""
    told: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for event in events:
        data = event.data
        if isinstance(data, Text):
            told.setdefault((data.step, data.part), []).extend((data.kind, character) for character in data.text)
        elif isinstance(data, TextDiscarded):
            characters = told.get((data.step, data.part), [])
            del characters[max(0, len(characters) - data.length) :]
    return {
        key: "".join(character for _, character in characters)
        for key, characters in told.items()
        if all(kind == "text" for kind, _ in characters)
    }


def text_of_log(entries: Iterable[Entry]) -> dict[tuple[str, int], str]:
    """The text that a log holds, by step and part."""
    texts: dict[tuple[str, int], str] = {}
    for entry in entries:
        for event in entry.commit.events:
            for added in texts_in(event.data):
                key = (added.step, added.part)
                texts[key] = texts.get(key, "")[: added.offset] + added.text
    return texts


def show_log(entries: Iterable[Entry]) -> str:
    """A log for a person, one event per line."""
    lines = ["the log:"]
    for entry in entries:
        commit = entry.commit
        for number, event in enumerate(commit.events):
            place = f"{commit.n:>3} {entry.seq:>6} {commit.by:<34}" if number == 0 else " " * 45
            lines.append(f"  {place} {_brief(event)}")
    return "\n".join(lines)


def show_tail(events: Iterable[TaskEvent]) -> str:
    """What a tail told, for a person, one event per line."""
    return "\n".join(["the tail:", *(f"  {event.cursor:<24} {_brief(event)}" for event in events)])


def _brief(event: Event | TaskEvent) -> str:
    data: Any = event.data
    text = msgspec.json.encode(data).decode()
    return f"{event.type} {text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + '…'}"


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  - {line}" for line in lines]
