"""What is said on the bus, for programs that are not written in Python: JSON Schema and AsyncAPI, from the structs."""

from mesh.schema.asyncapi import asyncapi
from mesh.schema.messages import MESSAGES
from mesh.schema.shapes import schema_of, schemas

__all__ = ["MESSAGES", "asyncapi", "schema_of", "schemas"]
