"""Artifacts of one task: bodies in the object store, and their names in its log."""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncIterable, Iterable
from typing import Final

from mesh.errors import ArtifactMissing, InvalidInput
from schemas.object import is_digest
from schemas.step import ArtifactAdded

MAX_ARTIFACT_NAME: Final = 256
TEXT: Final = "text/plain; charset=utf-8"
BYTES: Final = "application/octet-stream"
Artifact = ArtifactAdded
Source = bytes | AsyncIterable[bytes]


class Artifacts:
    """What a handler has written in this run, and what its log holds from the runs before.

    The n-th time that a run writes a name belongs to the n-th time that the log holds it, so branches may write side by
    side.
    """

    def __init__(self, recorded: Iterable[Artifact]) -> None:
        self._recorded: dict[str, list[Artifact]] = {}
        self._written: dict[str, int] = {}
        self._newest: dict[str, Artifact] = {}
        for artifact in recorded:
            self._recorded.setdefault(artifact.name, []).append(artifact)

    def next_recorded(self, name: str) -> Artifact | None:
        """The artifact that the log holds for the next write of this name."""
        count = self._written[name] = self._written.get(name, 0) + 1
        recorded = self._recorded.get(name, [])
        return recorded[count - 1] if count <= len(recorded) else None

    def add(self, artifact: Artifact) -> Artifact:
        """This run has written it."""
        self._newest[artifact.name] = artifact
        return artifact

    def digest_of(self, wanted: Artifact | str) -> str:
        """The digest of an artifact, by itself, its name or its digest; raises ArtifactMissing."""
        return newest_digest(wanted, self._newest.values(), "this handler has written")


def newest_digest(wanted: Artifact | str, artifacts: Iterable[Artifact], who: str) -> str:
    """The digest of an artifact, or of the newest one of that name; raises ArtifactMissing."""
    if isinstance(wanted, Artifact):
        return wanted.digest
    by_name = {artifact.name: artifact.digest for artifact in artifacts}
    if wanted in by_name:
        return by_name[wanted]
    if is_digest(wanted):
        return wanted
    there = ", ".join(repr(name) for name in by_name) or "none"
    raise ArtifactMissing(f"{who} no artifact {wanted!r}", hint=f"artifacts there: {there}")


def check_name(name: str) -> str:
    """A name that a log and a file system can hold; raises InvalidInput."""
    if not isinstance(name, str):
        raise InvalidInput(f"an artifact's name is text, not {type(name).__name__}")
    if not 0 < len(name) <= MAX_ARTIFACT_NAME or not name.isprintable():
        raise InvalidInput(f"an artifact's name is 1 to {MAX_ARTIFACT_NAME} printable characters, not {name!r}")
    return name


def source_of(data: bytes | str | AsyncIterable[bytes]) -> Source:
    """What is uploaded; raises InvalidInput for what is neither text nor bytes."""
    if isinstance(data, str):
        try:
            return data.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"the artifact is no Unicode: {error.reason} at character {error.start}") from error
    if not isinstance(data, bytes | AsyncIterable):
        raise InvalidInput(f"an artifact is text, bytes or an async iterator over bytes, not {type(data).__name__}")
    return data


def media_type_of(name: str, data: object) -> str:
    """What an artifact is, by its name, or by what it is made of."""
    guessed, encoding = mimetypes.guess_type(name)
    if guessed and not encoding:
        return guessed
    return TEXT if isinstance(data, str) else BYTES
