"""The AsyncAPI 3 document of a mesh, from the messages and the stream definitions.

`x-jetstream`, at the top and in each channel, says what AsyncAPI has no words for: which stream keeps a subject, how.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from mesh.bus.definitions import covers
from mesh.schema.messages import MESSAGES, Message
from mesh.schema.shapes import shapes
from mesh.streams import Bucket, Consumer, Definitions, ObjectBucket, Stream, call_consumer, definitions, run_consumer
from mesh.subjects import Subjects
from schemas.envelope import VERSION

SCHEMAS: Final = "#/components/schemas/"
PARAMETERS: Final = {
    "agent": "The name of an agent.",
    "app": "The name of an app.",
    "kind": "Why it is a dead letter: the code of its error.",
    "pool": "The pool of an app, by default its name.",
    "root": "The root of a task's tree: its id up to the first `--`.",
    "task": "The id of a task.",
    "timer": "The kind of the timer and the task it belongs to.",
    "worker": "The name of a worker.",
}
Part = dict[str, Any]


def asyncapi(prefix: str = "mesh") -> Part:
    """The whole document, with the subjects of the mesh of that prefix."""
    names = Subjects(prefix)
    wanted = definitions(names)
    channels = {one.name: _channel(one, prefix, wanted) for one in MESSAGES.values()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "nats-agent-mesh", "version": str(VERSION), "license": {"name": "Apache-2.0"},
            "description": "A mesh of AI agents on NATS JetStream. All subjects begin with the prefix of the mesh "
            f"(here `{prefix}`); the version is that of the wire.",
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": "127.0.0.1:4222", "protocol": "nats", "description": "What `mesh dev` starts."}},
        "channels": channels,
        "operations": {name: part for one in MESSAGES.values() for name, part in _operations(one).items()},
        "components": {
            "messages": {name: part for one in MESSAGES.values() for name, part in _messages(one).items()},
            "schemas": {name: _draft_07(shape) for name, shape in shapes(SCHEMAS).items()},
        },
        "x-jetstream": _jetstream(names, wanted),
    }  # fmt: skip


def _channel(message: Message, prefix: str, wanted: Definitions) -> Part:
    address = message.subject.replace("{prefix}", prefix)
    names = re.findall(r"\{(\w+)\}", address)
    channel: Part = {
        "address": address or None,  # null: where it goes is known at run time, from the reply subject
        "summary": message.summary,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _messages(message)},
    }
    if names:
        channel["parameters"] = {name: {"description": PARAMETERS[name]} for name in names}
    kept = _kept(re.sub(r"\{\w+\}", "*", address), wanted)
    return channel | ({"x-jetstream": kept} if kept else {})


def _operations(message: Message) -> dict[str, Part]:
    actions = {"in": ("receive",), "out": ("send",), "inside": ("send", "receive")}[message.side]
    operations = {}
    for action in actions:
        operation: Part = {
            "action": action,
            "channel": {"$ref": f"#/channels/{message.name}"},
            "summary": message.summary,
            "messages": [{"$ref": f"#/channels/{message.name}/messages/{name}"} for name in _messages(message)],
        }
        if message.answered_by and action == "receive":
            operation["reply"] = {
                "address": {"location": "$message.header#/reply", "description": "The reply subject of the request."},
                "channel": {"$ref": f"#/channels/{message.answered_by}"},
            }
        operations[f"{action}_{message.name}"] = operation
    return operations


def _messages(message: Message) -> dict[str, Part]:
    said = {
        message.name: {
            "name": message.name,
            "title": message.body.__name__,
            "summary": message.summary,
            "contentType": "application/json",
            "payload": {"$ref": f"{SCHEMAS}{message.body.__name__}"},
        }
    }
    if message.text:
        said[f"{message.name}_text"] = {
            "name": f"{message.name}_text",
            "summary": "The input as plain text; anything whose first character is not `{`.",
            "contentType": "text/plain",
            "payload": {"type": "string"},
        }
    return said


def _kept(subject: str, wanted: Definitions) -> Part | None:
    for stream in wanted.streams:
        if any(covers(pattern, subject) for pattern in stream.subjects):
            return {"stream": stream.name}
        if stream.republish and covers(stream.republish[1], subject):
            return {"republishedBy": stream.name}
    for bucket in wanted.buckets:
        if subject.startswith(f"$KV.{bucket.name}."):
            return {"bucket": bucket.name}
    return None


def _jetstream(names: Subjects, wanted: Definitions) -> Part:
    buckets: tuple[Bucket | ObjectBucket, ...] = (*wanted.buckets, *wanted.objects)
    consumers = (*wanted.consumers, run_consumer(names, "{pool}"), call_consumer(names, "{pool}"))
    return {
        "streams": {one.name: _stream(one) for one in wanted.streams},
        "consumers": {one.name: _consumer(one) for one in consumers},
        "buckets": {one.name: _bucket(one) for one in buckets},
    }


def _stream(stream: Stream) -> Part:
    part: Part = {
        "subjects": list(stream.subjects), "retention": stream.retention.value, "storage": stream.storage.value,
        "discard": "new" if stream.discard_new else "old", "allowDirect": stream.allow_direct,
        "denyDelete": stream.deny_delete, "noAck": stream.no_ack, "allowMsgSchedules": stream.schedules,
        "duplicateWindowSeconds": stream.duplicate_window_s,
    }  # fmt: skip
    if stream.republish:
        part["republish"] = {"source": stream.republish[0], "destination": stream.republish[1]}
    if stream.max_age_s:
        part["maxAgeSeconds"] = stream.max_age_s
    if stream.max_bytes > 0:
        part["maxBytes"] = stream.max_bytes
    return part


def _consumer(consumer: Consumer) -> Part:
    return {
        "stream": consumer.stream, "filterSubjects": list(consumer.filters), "ackPolicy": "explicit",
        "ackWaitSeconds": consumer.ack_wait_s, "maxAckPending": consumer.max_ack_pending, "maxDeliver": -1,
    }  # fmt: skip


def _bucket(bucket: Bucket | ObjectBucket) -> Part:
    if isinstance(bucket, ObjectBucket):
        return {"kind": "object-store"}
    return {"kind": "key-value"} | ({"ttlSeconds": bucket.ttl_s} if bucket.ttl_s else {})


def _draft_07(shape: Any) -> Any:
    """The same in the words of draft 07, which is what AsyncAPI's own schema language stands on."""
    if isinstance(shape, Mapping):
        older = {key: _draft_07(value) for key, value in shape.items()}
        if "prefixItems" in older:
            older["items"] = older.pop("prefixItems")
        return older
    return [_draft_07(one) for one in shape] if isinstance(shape, list) else shape
