"""The printed schemas say what the structs say, every golden file fits them, and their own validators take them."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator  # type: ignore[import-untyped]
from msgspec import Struct

import schemas as package
from mesh.schema import MESSAGES, asyncapi, schema_of, schemas
from mesh.streams import definitions
from mesh.subjects import Subjects
from schemas.envelope import EVENTS
from tests.compat.samples import FILES
from tests.compat.samples import MESSAGES as SAMPLES

DOCS = Path(__file__).parents[2] / "docs"
# AsyncAPI's own schema, unmodified (Apache-2.0, its notice beside it), from the npm package @asyncapi/specs.
OFFICIAL = Path(__file__).parent / "asyncapi-3.0.0.json"
# Values that are made of messages and never sent as such.
INTERNAL = {"Admission", "Refusal", "_WireEvent", "_WireCommit"}


def plain(document: Any) -> Any:
    return json.loads(json.dumps(document))


def test_the_file_of_schemas_is_current() -> None:
    assert json.loads((DOCS / "schema.json").read_text()) == plain(schemas()), "run: mesh schema > docs/schema.json"


def test_the_asyncapi_file_is_current() -> None:
    current = json.loads((DOCS / "asyncapi.json").read_text())
    assert current == plain(asyncapi()), "run: mesh schema --asyncapi > docs/asyncapi.json"


def test_the_schemas_are_json_schema() -> None:
    Draft202012Validator.check_schema(plain(schemas()))
    for name in MESSAGES:
        Draft202012Validator.check_schema(plain(schema_of(name)))


@cache
def official() -> Draft7Validator:
    return Draft7Validator(json.loads(OFFICIAL.read_text()))


def test_the_asyncapi_document_is_what_asyncapi_takes() -> None:
    assert [f"{list(error.path)}: {error.message}" for error in official().iter_errors(plain(asyncapi()))] == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("operations", "receive_submit", "action"), "shout"),
        (("channels", "submit", "address"), 7),
        (("info", "title"), None),
        (("components", "schemas", "Run", "type"), "thing"),
    ],
)
def test_a_wrong_document_is_refused(place: tuple[str, ...], value: object) -> None:
    document = plain(asyncapi())
    part = document
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    assert not official().is_valid(document)


def test_every_reference_leads_somewhere() -> None:
    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return own + [one for value in part.values() for one in references(value)]
        return [one for value in part for one in references(value)] if isinstance(part, list) else []

    for document in (plain(schemas()), plain(asyncapi()), *(plain(schema_of(name)) for name in MESSAGES)):
        for reference in references(document):
            target = document
            for key in reference.removeprefix("#/").split("/"):
                assert key in target, reference
                target = target[key]


def test_every_struct_that_is_sent_has_a_shape() -> None:
    defined = {
        name
        for module in pkgutil.iter_modules(package.__path__, "schemas.")
        for name, one in inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
        if issubclass(one, Struct) and one.__module__ == module.name
    }
    assert defined - INTERNAL - set(schemas()["$defs"]) == set()


@cache
def all_shapes() -> Any:
    return plain(schemas()["$defs"])


BODY_OF = {name: type(sample).__name__ for name, sample in SAMPLES.items()}


@pytest.mark.parametrize("file", sorted(FILES.glob("*.json")), ids=lambda file: file.stem)
def test_what_was_ever_sent_fits_its_schema(file: Path) -> None:
    shape = "Commit" if file.stem.startswith("event.") else BODY_OF[file.stem]
    validator = Draft202012Validator({"$ref": f"#/$defs/{shape}", "$defs": all_shapes()})
    assert [error.message for error in validator.iter_errors(json.loads(file.read_text()))] == []


@pytest.mark.parametrize(
    "change",
    [
        {"n": "four"},
        {"events": [{"type": "task.completed"}]},
        {"events": [{"type": "task.failed", "data": {}}]},
        {"events": [{"type": 7, "data": {}}]},
    ],
)
def test_a_commit_that_no_reader_understands_does_not_fit(change: dict[str, object]) -> None:
    validator = Draft202012Validator(plain(schema_of("log")))
    commit = json.loads((FILES / "event.task.completed.json").read_text())
    assert validator.is_valid(commit)
    assert validator.is_valid(commit | {"events": [{"type": "step.dreamt", "data": {"later": True}}]})
    assert not validator.is_valid(commit | change)


def test_every_event_and_every_stream_is_told() -> None:
    document, names = asyncapi(), Subjects()
    told = {one["properties"]["type"].get("const") for one in document["components"]["schemas"]["Event"]["anyOf"]}
    assert told >= set(EVENTS)
    assert set(document["x-jetstream"]["streams"]) == {one.name for one in definitions(names).streams}
    assert document["channels"]["submit"]["x-jetstream"] == {"stream": names.work}
    assert document["channels"]["log"]["x-jetstream"] == {"republishedBy": names.tasks}
