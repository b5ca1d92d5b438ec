"""What the broker's JetStream answers say, and which of our errors they are."""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from mesh.errors import BusUnavailable, MeshError, StorageFull, StreamMismatch, TooLarge

WRONG_LAST_SEQUENCE = 10071
STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014
MESSAGE_NOT_FOUND = 10037
NO_LEADER = 10008

# A rival's append is on its way through the replicas: nothing is decided yet, so the same bytes may be tried again.
_RIVAL_IN_FLIGHT = 10164
_FULL = frozenset({10002, 10023, 10028, 10047, 10077})
_TOO_LARGE = frozenset({10054, 10097, 10199})
_NO_JETSTREAM = frozenset({10039, 10076})
_NO_PEERS = 10005
_NO_CLUSTER = 10074
_SEQUENCE = re.compile(r"(\d+)\s*$")


class ApiError(Struct):
    """An error in an answer of the broker."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Ack(Struct):
    """The answer to a stored publish."""

    seq: int = 0
    duplicate: bool = False
    error: ApiError | None = None


class ErrorOnly(Struct):
    """Any answer, as far as it says whether it is an error."""

    error: ApiError | None = None


decode_ack = msgspec.json.Decoder(Ack).decode


def last_sequence(error: ApiError) -> int:
    """The sequence that error 10071 names."""
    found = _SEQUENCE.search(error.description)
    if found is None:
        raise BusUnavailable(f"the broker named no sequence: {error.description}")
    return int(found.group(1))


def failure(subject: str, error: ApiError) -> MeshError:
    """The exception for an error of the broker."""
    text = f"{subject}: {error.description or 'refused'} (error {error.err_code})"
    if error.err_code in _FULL:
        return StorageFull(
            f"the broker's store is full: {text}", hint="free space, or raise the limit of the store or the stream"
        )
    if error.err_code in _TOO_LARGE:
        return TooLarge(text)
    if error.err_code in _NO_JETSTREAM:
        return BusUnavailable(text, hint="the server must run with JetStream (-js)")
    if error.err_code == _NO_PEERS:
        return BusUnavailable(text, hint="too few servers of the cluster are at work for this many replicas")
    if error.err_code == _NO_CLUSTER:
        return StreamMismatch(text, hint="MESH_PROFILE=cluster needs a cluster of three servers; `single` needs one")
    if error.err_code == _RIVAL_IN_FLIGHT or error.code == 503:
        return BusUnavailable(text)
    return MeshError(text)
