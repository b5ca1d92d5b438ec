"""How our stream and consumer definitions read in the broker's configuration."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from mesh.bus.messages import Difference
from mesh.streams import Bucket, Consumer, ObjectBucket, Retention, Storage, Stream

_SECOND_NS = 1_000_000_000
_MARKER_S = 1.0
_DURATIONS = frozenset({"ack_wait", "duplicate_window"})

Config = dict[str, Any]


class Finding(Struct, frozen=True):
    """One difference between a stream on the broker and what the protocol needs."""

    field: str
    there: Any
    wanted: Any
    fixable: bool

    def of(self, what: str) -> Difference:
        """The same for a person, who has to be told of which stream."""
        there, wanted = _shown(self.field, self.there), _shown(self.field, self.wanted)
        return Difference(what, self.field, there, wanted, self.fixable)


def stream_config(stream: Stream) -> Config:
    """What the broker is asked to create."""
    config: Config = {
        "name": stream.name,
        "subjects": list(stream.subjects),
        "retention": stream.retention.value,
        "storage": stream.storage.value,
        "discard": "new" if stream.discard_new else "old",
        "duplicate_window": _ns(stream.duplicate_window_s),
        "max_age": _ns(stream.max_age_s),
        "max_bytes": stream.max_bytes,
        "allow_direct": stream.allow_direct,
        "deny_delete": stream.deny_delete,
        "no_ack": stream.no_ack,
        "num_replicas": stream.replicas,
    }
    if stream.schedules:
        config |= {"allow_msg_schedules": True, "allow_msg_ttl": True, "allow_rollup_hdrs": True}
    if stream.atomic:
        config["allow_atomic"] = True
    if stream.republish is not None:
        config["republish"] = {"src": stream.republish[0], "dest": stream.republish[1]}
    return config


def bucket_config(bucket: Bucket) -> Config:
    """A bucket is a stream that keeps the newest message of each key.

    With a time to live the broker stores a marker when an entry expires, which is how a watcher learns of it.
    """
    config: Config = {
        "name": bucket_stream(bucket.name),
        "subjects": [f"{bucket_subject(bucket.name, '>')}"],
        "retention": Retention.LIMITS.value,
        "storage": Storage.FILE.value,
        "discard": "new",
        "max_msgs_per_subject": 1,
        "max_age": _ns(bucket.ttl_s),
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "allow_msg_ttl": True,
        "deny_delete": True,
        "duplicate_window": _ns(min(bucket.ttl_s or 120.0, 120.0)),
        "num_replicas": bucket.replicas,
    }
    if bucket.ttl_s > 0:
        config["subject_delete_marker_ttl"] = _ns(_MARKER_S)
    return config


def objects_config(bucket: ObjectBucket) -> Config:
    """The stream of an object bucket, as every NATS client makes it."""
    return {
        "name": objects_stream(bucket.name),
        "subjects": [chunks_subject(bucket.name, ">"), meta_subject(bucket.name, ">")],
        "retention": Retention.LIMITS.value,
        "storage": Storage.FILE.value,
        "discard": "new",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "duplicate_window": 0,
        "num_replicas": bucket.replicas,
    }


def consumer_config(consumer: Consumer) -> Config:
    """What the broker is asked to create for a shared worker queue."""
    return {
        "durable_name": consumer.name,
        "name": consumer.name,
        "ack_policy": "explicit",
        "deliver_policy": "all",
        "max_deliver": -1,
        "ack_wait": _ns(consumer.ack_wait_s),
        "max_ack_pending": consumer.max_ack_pending,
        "filter_subjects": list(consumer.filters),
    }


def bucket_stream(bucket: str) -> str:
    """The stream behind a bucket."""
    return f"KV_{bucket}"


def bucket_subject(bucket: str, key: str) -> str:
    """The subject of one key."""
    return f"$KV.{bucket}.{key}"


def objects_stream(bucket: str) -> str:
    """The stream behind an object bucket."""
    return f"OBJ_{bucket}"


def chunks_subject(bucket: str, upload: str) -> str:
    """The subject of the chunks of one upload."""
    return f"$O.{bucket}.C.{upload}"


def meta_subject(bucket: str, name: str) -> str:
    """The subject of what is said about one object; `name` is encoded."""
    return f"$O.{bucket}.M.{name}"


def differences(there: Config, wanted: Config) -> list[Finding]:
    """What the protocol needs and a stream on the broker does not have.

    Sizes, ages and placement belong to the operator and are not looked at.
    """
    found = [
        Finding(field, there.get(field), wanted[field], fixable=False)
        for field in ("retention", "storage")
        if there.get(field) != wanted[field]
    ]
    missing = [one for one in wanted["subjects"] if not any(covers(p, one) for p in there.get("subjects") or [])]
    if missing:
        found.append(Finding("subjects", there.get("subjects") or [], wanted["subjects"], fixable=True))
    found += [
        Finding(field, bool(there.get(field)), True, fixable=True)
        for field in (
            "allow_direct",
            "deny_delete",
            "allow_msg_ttl",
            "allow_rollup_hdrs",
            "allow_msg_schedules",
            "allow_atomic",
        )
        if wanted.get(field) and not there.get(field)
    ]
    if wanted["discard"] == "new" and there.get("discard") != "new":
        found.append(Finding("discard", there.get("discard"), "new", fixable=True))
    if bool(there.get("no_ack")) != bool(wanted.get("no_ack")):
        found.append(Finding("no_ack", bool(there.get("no_ack")), bool(wanted.get("no_ack")), fixable=True))
    found += [
        Finding(field, there.get(field, 0), wanted[field], fixable=True)
        for field in ("duplicate_window", "num_replicas")
        if there.get(field, 0) < wanted[field]
    ]
    return found + _republish(there, wanted)


def corrected(there: Config, wanted: Config, found: list[Finding]) -> Config:
    """The broker's configuration with the differences put right and the rest as its operator has it."""
    config = dict(there)
    for one in found:
        config[one.field] = one.wanted
    if any(one.field == "subjects" for one in found):
        kept = [s for s in there.get("subjects") or [] if not any(covers(w, s) for w in wanted["subjects"])]
        config["subjects"] = kept + wanted["subjects"]
    return config


def consumer_differences(there: Config, wanted: Config) -> list[Finding]:
    """What an existing consumer does otherwise."""
    has = dict(there)
    if not has.get("filter_subjects"):
        has["filter_subjects"] = [has["filter_subject"]] if has.get("filter_subject") else []
    return [
        Finding(field, has.get(field), wanted[field], fixable=field not in ("ack_policy", "deliver_policy"))
        for field in ("ack_policy", "deliver_policy", "max_deliver", "ack_wait", "max_ack_pending", "filter_subjects")
        if has.get(field) != wanted[field]
    ]


def covers(pattern: str, subject: str) -> bool:
    """Whether every message of `subject`, which may hold wildcards, matches `pattern`."""
    have, want = pattern.split("."), subject.split(".")
    for index, token in enumerate(have):
        if token == ">":
            return len(want) > index
        if index >= len(want) or want[index] == ">" or (token not in ("*", want[index])):
            return False
    return len(have) == len(want)


def _republish(there: Config, wanted: Config) -> list[Finding]:
    want = wanted.get("republish")
    has = there.get("republish")
    if want is None or (has is not None and all(has.get(key) == want[key] for key in ("src", "dest"))):
        return []
    return [Finding("republish", has, want, fixable=has is None)]


def _ns(seconds: float) -> int:
    return int(seconds * _SECOND_NS)


def _shown(field: str, value: Any) -> str:
    if field in _DURATIONS and value:
        return f"{value / _SECOND_NS:g} s"
    return msgspec.json.encode(value).decode()
