"""Artifacts over a log in memory: written once, the same again after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesh import Artifact, ArtifactMissing, Context, InvalidInput
from mesh.agents.artifacts import MAX_ARTIFACT_NAME
from schemas.object import digest_of
from tests.unit.recording import Died, Log, run


async def pieces() -> AsyncIterator[bytes]:
    yield b"one "
    yield b"two"


def artifacts(log: Log) -> list[Artifact]:
    return [data for data in log.events if isinstance(data, Artifact)]


@pytest.mark.parametrize(
    ("name", "data", "media_type", "wanted"),
    [
        ("notes.md", "# one two", None, "text/markdown"),
        ("notes", "one two", None, "text/plain; charset=utf-8"),
        ("a.pdf", b"one", None, "application/pdf"),
        ("a.tar.gz", b"one", None, "application/octet-stream"),
        ("a", pieces, None, "application/octet-stream"),
        ("a.pdf", b"", "application/x-mine", "application/x-mine"),
    ],
)
async def test_text_bytes_and_streams_are_kept_with_their_type(
    name: str, data: Any, media_type: str | None, wanted: str
) -> None:
    log = Log()
    body = b"one two" if callable(data) else data.encode() if isinstance(data, str) else data

    async def handler(ctx: Context) -> None:
        written = await ctx.write_artifact(name, data() if callable(data) else data, media_type)
        assert written == Artifact(name=name, digest=digest_of(body), size=len(body), media_type=wanted)
        for way in (written, name, written.digest):
            assert await ctx.read_artifact(way) == body
            assert b"".join([piece async for piece in ctx.open_artifact(way)]) == body

    await run(log, handler)
    assert [one.name for one in artifacts(log)] == [name]


async def test_a_handler_that_is_called_again_gets_what_its_log_holds_and_uploads_nothing() -> None:
    log = Log()
    rounds: list[str] = []

    async def handler(ctx: Context) -> list[bytes]:
        rounds.append(f"round {len(rounds)}")
        await ctx.write_artifact("a", rounds[-1])
        first = await ctx.read_artifact("a")
        await ctx.write_artifact("b", pieces())
        await ctx.write_artifact("a", f"{rounds[-1]} again")
        return [first, await ctx.read_artifact("a")]

    with pytest.raises(Died):
        await run(log, handler, dies_before=4)
    kept = set(log.objects.bodies)
    assert await run(log, handler) == [b"round 0", b"round 1 again"]
    assert set(log.objects.bodies) - kept == {digest_of(b"round 1 again")}
    assert await run(log, handler) == [b"round 0", b"round 1 again"]
    assert [one.name for one in artifacts(log)] == ["a", "b", "a"]


async def test_branches_may_write_side_by_side_in_any_order() -> None:
    log = Log()
    order = ["left", "right"]

    async def handler(ctx: Context) -> list[int]:
        written = {name: asyncio.create_task(ctx.write_artifact(name, name)) for name in order}
        return [(await written[name]).size for name in ("left", "right")]

    assert await run(log, handler) == [4, 5]
    order.reverse()
    assert await run(log, handler) == [4, 5]
    assert len(artifacts(log)) == 2


@pytest.mark.parametrize("wanted", ["never", "", digest_of(b"never kept"), "sha256-short"])
async def test_a_missing_artifact_is_a_clear_error(wanted: str) -> None:
    async def handler(ctx: Context) -> None:
        await ctx.write_artifact("there.txt", "x")
        with pytest.raises(ArtifactMissing) as missing:
            await ctx.read_artifact(wanted)
        assert "there.txt" in (missing.value.hint or "") or wanted in missing.value.message

    await run(Log(), handler)


@pytest.mark.parametrize("name", ["", "a\nb", "a\x00", "\x1b[31m", "x" * (MAX_ARTIFACT_NAME + 1), 5, "\ud800"])
async def test_a_bad_name_is_refused_before_anything_is_kept(name: Any) -> None:
    log = Log()

    async def handler(ctx: Context) -> None:
        with pytest.raises(InvalidInput):
            await ctx.write_artifact(name, "x")

    await run(log, handler)
    assert not log.objects.bodies


@pytest.mark.parametrize("data", [5, None, ["a"], "\ud800"])
async def test_what_is_neither_text_nor_bytes_is_refused(data: Any) -> None:
    async def handler(ctx: Context) -> None:
        with pytest.raises(InvalidInput, match="artifact"):
            await ctx.write_artifact("a", data)

    await run(Log(), handler)
