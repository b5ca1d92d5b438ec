"""What was written once is read for ever, byte for byte."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas import envelope
from schemas.envelope import EVENTS, decode, encode
from schemas.step import EventAdded
from tests.compat.samples import DATA, FILES, MESSAGES, bodies, decoded

ROOT = Path(__file__).parent
KNOWN = ROOT / "known.sha256"
SAMPLES = bodies()


def digests() -> dict[str, str]:
    return {
        str(file.relative_to(ROOT)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted([*FILES.glob("*.json"), *(ROOT / "histories").glob("*.jsonl")])
    }


def test_no_golden_file_was_ever_changed_or_removed() -> None:
    lines = [line.split("  ", 1) for line in KNOWN.read_text().splitlines()]
    known = {name: digest for digest, name in lines}
    assert digests() == known, f"files are only added, with their line in {KNOWN.name}: sha256sum"


def test_every_type_has_a_sample() -> None:
    assert {envelope.TYPE_OF[type(data)] for data in DATA} == set(EVENTS)
    assert {file.stem for file in FILES.glob("*.json")} >= set(SAMPLES)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_sample_is_encoded_as_its_file_says(name: str) -> None:
    assert SAMPLES[name] == (FILES / f"{name}.json").read_bytes()


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_file_is_decoded_and_encoded_again_to_the_same_bytes(name: str) -> None:
    body = (FILES / f"{name}.json").read_bytes()
    value = decoded(name, body)
    assert (envelope.encode(value) if name.startswith("event.") else msgspec.json.encode(value)) == body


OPEN = {
    "input", "output", "arguments", "details", "metadata", "body", "headers", "unknown", "data", "input_schema",
    "output_schema", "commit", "opening", "logs",
}  # fmt: skip


def outer(value: Any) -> Any:
    """The same with one more key in every object that a newer version may have added to."""
    if isinstance(value, dict):
        kept = {key: inner if key in OPEN else outer(inner) for key, inner in value.items()}
        return kept | {"a_newer_key": {"x": [1]}}
    return [outer(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_keys_of_a_newer_version_are_skipped(name: str) -> None:
    body = (FILES / f"{name}.json").read_bytes()
    wire = msgspec.json.decode(body)
    if name.startswith("event."):
        wire["events"] = [{"type": one["type"], "data": outer(one["data"]), "new": 1} for one in wire["events"]]
        newer = wire | {"head": wire["head"] | {"new": 1}, "new": [1]}
    else:
        newer = outer(wire)
    assert decoded(name, msgspec.json.encode(newer)) == decoded(name, body)


def test_an_event_of_an_unknown_type_is_kept_as_it_came() -> None:
    body = (FILES / "event.event.added.json").read_bytes()
    newer = body.replace(b'"events":[', b'"events":[{"type":"step.dreamt","data":{"of":["sheep", 1]}},')
    commit = envelope.decode(newer)
    unknown, known = commit.events
    assert unknown.type == "step.dreamt"
    assert bytes(unknown.data) == b'{"of":["sheep", 1]}'
    assert isinstance(known.data, EventAdded)
    assert envelope.encode(commit) == newer


def test_only_what_is_needed_goes_over_the_wire() -> None:
    smallest = msgspec.json.encode(type(MESSAGES["command.submit"])(input=1))
    assert smallest == b'{"input":1}'


@pytest.mark.parametrize(
    "body",
    [
        b'{"step":"s","kind":"remote","name":"s"}',
        b'{"step":"s","kind":{"later":"form"},"name":"s"}',
        b'{"step":"s","kind":"code","name":"s","idempotent":"perhaps"}',
    ],
    ids=["a value from the future", "a form from the future", "a type from the future"],
)
def test_a_known_event_of_a_later_version_is_passed_on_and_breaks_no_reader(body: bytes) -> None:
    commit = (
        b'{"v":1,"task":"t","n":1,"nonce":"x","by":"executor/e","at":"2026-01-01T00:00:00.000000Z","first":1,'
        b'"head":{"phase":"later"},"events":[{"type":"step.requested","data":' + body + b"}]}"
    )
    read = decode(commit)
    assert read.head.phase == "later"
    assert read.events[0].type == "step.requested"
    assert decode(encode(read)) == read
