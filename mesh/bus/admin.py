"""Streams, buckets and consumers on the broker: looked at, created, and corrected where that loses nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from mesh.bus.answers import CONSUMER_NOT_FOUND, MESSAGE_NOT_FOUND, NO_LEADER, STREAM_NOT_FOUND, ApiError, failure
from mesh.bus.api import Api
from mesh.bus.definitions import (
    Config,
    Finding,
    bucket_config,
    consumer_config,
    consumer_differences,
    corrected,
    differences,
    objects_config,
    stream_config,
)
from mesh.bus.messages import ConsumerState, Difference, ReplicaState, StreamFacts, StreamState
from mesh.errors import MeshError, StreamMismatch
from mesh.streams import Consumer, Definitions
from mesh.subjects import Subjects

_ALREADY_THERE = 10058
_SECOND_NS = 1_000_000_000


class _State(Struct, frozen=True):
    last_seq: int = 0


class _StreamInfo(Struct):
    config: Config
    created: str = ""
    state: _State = _State()
    ts: str = ""


class _Peer(Struct):
    name: str
    current: bool = False
    active: int = 0
    lag: int = 0


class _Placement(Struct):
    leader: str = ""
    replicas: tuple[_Peer, ...] = ()


class _Size(Struct):
    bytes: int
    num_subjects: int = 0


class _StreamStanding(Struct):
    config: Config
    state: _Size
    cluster: _Placement | None = None


class _Counts(Struct):
    subjects: dict[str, int] | None = None


class _Counted(Struct):
    state: _Counts
    total: int = 0


class _ConsumerInfo(Struct):
    config: Config
    num_pending: int = 0
    num_ack_pending: int = 0
    num_redelivered: int = 0


class Admin:
    """What a bus does to the broker's configuration."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def ensure(self, definitions: Definitions, *, tune: bool = True) -> list[str]:
        """Create what is missing and correct what can be; says what it did.

        Without `tune` consumers that are there are left as they are.
        """
        done: list[str] = []
        for config in _streams(definitions):
            done += await self._ensure_stream(config)
        for consumer in definitions.consumers:
            done += await self.ensure_consumer(consumer, tune=tune)
        return done

    async def inspect(self, definitions: Definitions) -> list[Difference]:
        """What `ensure` would do, or would refuse."""
        found: list[Difference] = []
        for config in _streams(definitions):
            what, info = f"stream {config['name']}", await self.stream(config["name"])
            found += _compared(what, differences(info.config, config) if info else None)
        for consumer in definitions.consumers:
            there = await self._consumer(consumer)
            config = consumer_config(consumer)
            found += _compared(_name(consumer), consumer_differences(there.config, config) if there else None)
        return found

    async def ensure_consumer(self, consumer: Consumer, *, tune: bool = True) -> list[str]:
        """Create a consumer, or with `tune` bring it to what is wanted."""
        wanted = consumer_config(consumer)
        there = await self._consumer(consumer)
        if there is None:
            await self._write_consumer(consumer, wanted)
            return [f"created {_name(consumer)}"]
        found = consumer_differences(there.config, wanted)
        if not found or not tune:
            return []
        _refuse(_name(consumer), found)
        config = {key: value for key, value in there.config.items() if key != "filter_subject"}
        await self._write_consumer(consumer, config | wanted)
        return [f"{one.of(_name(consumer))}; changed" for one in found]

    async def consumer_state(self, stream: str, name: str) -> ConsumerState | None:
        """What waits for a consumer, or None if it is not there."""
        info = await self._consumer(Consumer(stream=stream, name=name, filters=()))
        if info is None:
            return None
        return ConsumerState(info.num_pending, info.num_ack_pending, info.num_redelivered)

    async def stream(self, name: str) -> _StreamInfo | None:
        """A stream as the broker has it, or None."""
        answer = await self._api.call(f"STREAM.INFO.{name}", None, _StreamInfo)
        if not isinstance(answer, ApiError):
            return answer
        if answer.err_code == STREAM_NOT_FOUND:
            return None
        raise failure(f"stream {name}", answer)

    async def standings(self, definitions: Definitions) -> dict[str, StreamState]:
        """How each stream stands, as far as it is there."""
        found = {}
        for config in _streams(definitions):
            answer = await self._api.call(f"STREAM.INFO.{config['name']}", None, _StreamStanding)
            if not isinstance(answer, ApiError):
                found[config["name"]] = _standing(answer)
        return found

    async def facts(self, name: str) -> StreamFacts:
        """What is needed to tell one stream from another and its end from an earlier one."""
        info = await self._there(name)
        return StreamFacts(info.created, info.state.last_seq, info.config.get("num_replicas", 1))

    async def _there(self, name: str) -> _StreamInfo:
        info = await self.stream(name)
        if info is None:
            raise MeshError(f"there is no stream {name}", hint="`mesh doctor --apply` creates it")
        return info

    async def time(self, name: str) -> float:
        """The clock of the broker that leads a stream, in seconds since 1970."""
        info = await self.stream(name)
        if info is None:
            raise MeshError(f"there is no stream {name}", hint="`mesh doctor --apply` creates it")
        return datetime.fromisoformat(info.ts).timestamp()

    async def has_mesh(self, names: Subjects) -> bool:
        """Whether the streams that every task needs are there."""
        return await self.stream(names.work) is not None and await self.stream(names.tasks) is not None

    async def counts(self, stream: str, subject_filter: str) -> dict[str, int]:
        """How many messages each matching subject has; the broker tells some at a time."""
        found: dict[str, int] = {}
        while True:
            asked = {"subjects_filter": subject_filter, "offset": len(found)}
            answer = await self._api.require(f"STREAM.INFO.{stream}", asked, _Counted)
            found |= answer.state.subjects or {}
            if not answer.state.subjects or len(found) >= answer.total:
                return found

    async def purge(self, stream: str, subject: str, upto: int | None) -> None:
        """Remove all messages of a subject, or those up to a sequence."""
        which: dict[str, Any] = {"filter": subject} if upto is None else {"filter": subject, "seq": upto + 1}
        await self._api.require(f"STREAM.PURGE.{stream}", which, dict[str, Any])

    async def delete(self, stream: str, seq: int) -> bool:
        """Remove one message; False if it was gone."""
        call = f"STREAM.MSG.DELETE.{stream}"
        answer = await self._api.call(call, {"seq": seq, "no_erase": True}, dict[str, Any])
        if not isinstance(answer, ApiError):
            return True
        # What the broker answers for a message that is gone depends on where it stood.
        there = await self._api.call(f"STREAM.MSG.GET.{stream}", {"seq": seq}, dict[str, Any])
        if isinstance(there, ApiError) and there.err_code == MESSAGE_NOT_FOUND:
            return False
        raise failure(call, answer)

    async def account(self) -> dict[str, Any] | None:
        """What the broker says about JetStream for this account; None where it is off, empty while nobody leads."""
        answer = await self._api.call("INFO", None, dict[str, Any])
        if isinstance(answer, ApiError):
            return {} if answer.err_code == NO_LEADER else None
        return answer

    async def _ensure_stream(self, wanted: Config) -> list[str]:
        name = wanted["name"]
        info = await self.stream(name)
        if info is None:
            answer = await self._api.call(f"STREAM.CREATE.{name}", wanted, _StreamInfo)
            if not isinstance(answer, ApiError):
                return [f"created stream {name}"]
            if answer.err_code != _ALREADY_THERE:
                raise failure(f"stream {name}", answer)
            # Another process has created it in between, perhaps with an operator's own sizes.
            return await self._ensure_stream(wanted)
        found = differences(info.config, wanted)
        if not found:
            return []
        _refuse(f"stream {name}", found)
        await self._api.require(f"STREAM.UPDATE.{name}", corrected(info.config, wanted, found), _StreamInfo)
        return [f"{one.of(f'stream {name}')}; changed" for one in found]

    async def _consumer(self, consumer: Consumer) -> _ConsumerInfo | None:
        answer = await self._api.call(f"CONSUMER.INFO.{consumer.stream}.{consumer.name}", None, _ConsumerInfo)
        if not isinstance(answer, ApiError):
            return answer
        if answer.err_code in (CONSUMER_NOT_FOUND, STREAM_NOT_FOUND):
            return None
        raise failure(_name(consumer), answer)

    async def _write_consumer(self, consumer: Consumer, config: Config) -> None:
        body = {"stream_name": consumer.stream, "config": config}
        await self._api.require(f"CONSUMER.CREATE.{consumer.stream}.{consumer.name}", body, _ConsumerInfo)


def _streams(definitions: Definitions) -> list[Config]:
    buckets = [bucket_config(bucket) for bucket in definitions.buckets]
    objects = [objects_config(bucket) for bucket in definitions.objects]
    return [stream_config(stream) for stream in definitions.streams] + buckets + objects


def _standing(info: _StreamStanding) -> StreamState:
    placement = info.cluster or _Placement(leader="itself")
    return StreamState(
        bytes=info.state.bytes,
        max_bytes=info.config.get("max_bytes", -1),
        subjects=info.state.num_subjects,
        led=bool(placement.leader),
        replicas=tuple(
            ReplicaState(one.name, one.current, one.active / _SECOND_NS, one.lag) for one in placement.replicas
        ),
    )


def _name(consumer: Consumer) -> str:
    return f"consumer {consumer.name} of {consumer.stream}"


def _compared(what: str, found: list[Finding] | None) -> list[Difference]:
    """What differs; all of it, where it was not found."""
    return [Difference(what)] if found is None else [one.of(what) for one in found]


def _refuse(what: str, found: list[Finding]) -> None:
    fixed = [one.of(what) for one in found if not one.fixable]
    if fixed:
        raise StreamMismatch(
            "; ".join(map(str, fixed)),
            hint="nothing was changed; rename or remove it, or give the mesh another prefix",
        )
