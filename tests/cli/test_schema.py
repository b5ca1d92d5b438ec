"""`mesh schema` on the command line."""

from __future__ import annotations

import json

from tests.cli.conftest import Start


async def test_schemas_are_printed_whole_one_by_one_and_as_asyncapi(start: Start) -> None:
    whole = start("schema")
    assert whole.code() == 0
    assert "Commit" in json.loads(whole.out)["$defs"]
    one = start("schema", "submit")
    assert one.code() == 0
    assert json.loads(one.out)["$ref"] == "#/$defs/Submit"
    document = start("schema", "--asyncapi")
    assert document.code() == 0
    assert json.loads(document.out)["asyncapi"] == "3.0.0"


async def test_an_unknown_message_is_told_those_there_are(start: Start) -> None:
    command = start("schema", "submitt")
    assert command.code() == 2
    assert "submit" in command.err
