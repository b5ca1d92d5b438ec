"""The end of a tool call is told to the task's owner, who finds in the log what was not told."""

from __future__ import annotations

from contextlib import aclosing

import msgspec
import pytest

from mesh import Context, Mesh
from mesh.bus import LiveMessage
from mesh.log.head import Entry, View, next_commit, view_of
from mesh.log.ops import Ack, Append, Conflict, Nak, Op, ReadAfter, Stored, Tell, drive
from mesh.service import Stamp
from mesh.subjects import Subjects
from schemas import envelope
from schemas.command import Call
from schemas.envelope import Head, event
from schemas.object import LARGE_BYTES
from schemas.signal import Told
from schemas.step import StepCompleted
from schemas.task import CancelRequested
from services.tool_runner import rules
from services.tool_runner.rules import Delivered, Runner
from tests.integration.world import World


@pytest.mark.parametrize(("size", "told"), [(10, 1), (LARGE_BYTES, 0)], ids=["small", "large"])
async def test_a_result_is_told_once_it_is_stored_unless_it_is_large(world: World, size: int, told: int) -> None:
    app, heard = Mesh("shop"), list[LiveMessage]()

    @app.tool(idempotent=True)
    async def text(size: int) -> str:
        return "x" * size

    @app.agent
    async def reads(ctx: Context) -> int:
        return len(await ctx.tool("text", {"size": size}))

    await world.runner(app)
    await world.serve(app)
    async with aclosing(await world.bus.subscribe("_INBOX_executor.*.*.told", heard.append)):
        task = await world.client.submit(reads, None)
        outcome = await world.outcome(task.id)
    assert outcome.result.output == size
    assert len(heard) == told
    for message in heard:
        body = msgspec.json.decode(message.data, type=Told)
        stored = next(entry for entry in outcome.entries if entry.seq == body.seq)
        assert envelope.decode(body.commit) == stored.commit
        assert isinstance(stored.commit.events[0].data, StepCompleted)


@pytest.mark.parametrize(
    ("reply", "told"), [("_INBOX_executor.a.b.told", 1), ("", 0), ("mesh.submit.noop", 0), ("_INBOX.>", 0)]
)
async def test_an_end_is_told_to_an_inbox_and_nowhere_else(reply: str, told: int) -> None:
    head = Head(phase="running", claim=1, owner="e")
    call = Call(
        v=1, task="t", root="t", first=1, last=2, n=1, head=head, step="text", tool="text", arguments={}, reply=reply,
    )  # fmt: skip
    runner = Runner(names=Subjects(), writer=Stamp("tool-runner", "r"), worker="r")
    flow = rules.finish(runner, Delivered(call, 5, 1), View("t", 3, 2, 1, head), StepCompleted(step="text"))
    asked: list[Op] = []

    async def answer(op: Op) -> Stored | None:
        asked.append(op)
        return Stored(4) if isinstance(op, Append) else None

    assert await drive(flow, answer) == Ack()
    assert [op.subject for op in asked if isinstance(op, Tell)] == [reply] * told


async def test_an_end_that_others_wrote_over_is_left_to_be_read() -> None:
    head = Head(phase="running", claim=1, owner="e")
    call = Call(
        v=1, task="t", root="t", first=1, last=2, n=1, head=head, step="text", tool="text", arguments={},
        reply="_INBOX_executor.a.b.told",
    )  # fmt: skip
    runner = Runner(names=Subjects(), writer=Stamp("tool-runner", "r"), worker="r")
    flow = rules.finish(runner, Delivered(call, 5, 1), View("t", 3, 2, 1, head), StepCompleted(step="text"))
    asked: list[Op] = []
    written: list[Entry] = []

    async def answer(op: Op) -> Conflict | tuple[Entry, ...] | None:
        asked.append(op)
        if isinstance(op, Append):
            written.append(Entry(4, op.commit))
            return Conflict(5)
        if isinstance(op, ReadAfter):
            cancel = next_commit(view_of(written[0]), Stamp("router", "r"), (event(CancelRequested(id="c")),))
            return (written[0], Entry(5, cancel))
        return None

    assert await drive(flow, answer) == Ack()
    assert not [op for op in asked if isinstance(op, Tell)]


@pytest.mark.parametrize(("first", "last"), [(0, 0), (1, 1), (2, 1)])
async def test_a_call_that_names_no_request_is_not_begun(first: int, last: int) -> None:
    call = Call(
        v=1, task="t", root="t", first=first, last=last, n=0, head=Head(), step="text", tool="text", arguments={}
    )
    runner = Runner(names=Subjects(), writer=Stamp("tool-runner", "r"), worker="r")
    asked: list[Op] = []

    async def answer(op: Op) -> tuple[Entry, ...]:
        asked.append(op)
        return ()

    assert isinstance(await drive(rules.begin(runner, Delivered(call, 5, 1)), answer), Nak)
    assert not [op for op in asked if isinstance(op, Append)]
