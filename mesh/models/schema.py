"""JSON Schema as providers take it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

_REF: Final = "#/$defs/"


def flat_schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type, without a reference at its root.

    Some providers refuse a root that is a bare `$ref`. A type that refers to itself stays under `$defs` as well.

    Raises: TypeError for a type that msgspec cannot read.
    """
    (schema,), components = msgspec.json.schema_components([kind], ref_template=_REF + "{name}")
    root = schema.get("$ref", "")
    if root.startswith(_REF):
        name = root.removeprefix(_REF)
        schema = dict(components[name])
        if not _refers_to(root, components):
            del components[name]
    return {**schema, "$defs": components} if components else schema


def object_schema(kind: Any) -> tuple[dict[str, Any], bool]:
    """A schema with an object at its root, and whether the type had to be wrapped as its `value`."""
    schema = flat_schema(kind)
    if schema.get("type") == "object":
        return schema, False
    components = schema.pop("$defs", None)
    wrapped = {"type": "object", "properties": {"value": schema}, "required": ["value"]}
    return ({**wrapped, "$defs": components} if components else wrapped), True


def _refers_to(ref: str, value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("$ref") == ref or any(_refers_to(ref, inner) for inner in value.values())
    return isinstance(value, list) and any(_refers_to(ref, inner) for inner in value)
