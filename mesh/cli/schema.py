"""`mesh schema`: the messages, for programs in other languages."""

from __future__ import annotations

from typing import Annotated

import typer

EXAMPLES = """\b
Examples:
  mesh schema                  JSON Schema of every message, in one document
  mesh schema submit           of one
  mesh schema --asyncapi       AsyncAPI 3: subjects, streams, consumers
  mesh schema | jq '."x-messages" | keys'
"""


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog=EXAMPLES)(schema)


def schema(
    message: Annotated[
        str | None, typer.Argument(metavar="[MESSAGE]", help="Only this one.", show_default=False)
    ] = None,
    asyncapi: Annotated[bool, typer.Option("--asyncapi", help="Print an AsyncAPI 3 document.")] = False,
) -> None:
    """Print the schema of what is said on the bus."""
    import msgspec

    from mesh.errors import InvalidInput
    from mesh.schema import MESSAGES, schema_of, schemas
    from mesh.schema import asyncapi as whole_document

    if message is not None and asyncapi:
        raise InvalidInput("an AsyncAPI document has all messages", hint="leave the message out")
    if message is not None and message not in MESSAGES:
        raise InvalidInput(f"there is no message '{message}'", hint=f"there are {', '.join(MESSAGES)}")
    shown = whole_document() if asyncapi else schema_of(message) if message else schemas()
    typer.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2))
