"""One sample of everything that goes over the wire; each key names a golden file.

`python -m tests.compat.samples` writes the files of new samples. It never touches one that exists: what was written
once must be read for ever.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from schemas import step, task
from schemas.agent import AgentRecord, AppRecord, ToolRecord, WorkerRecord
from schemas.command import Call, DeadLetter, Ended, Fired, Run, Submit
from schemas.delta import Delta
from schemas.envelope import EVENTS, Commit, Event, Head, encode, event
from schemas.error import Error
from schemas.message import Message, Part, Recipe
from schemas.object import ObjectRef
from schemas.purge import LogsPurged
from schemas.service import EndpointInfo, EndpointStats, QueueState, ServiceInfo, ServicePing, ServiceStats
from schemas.session import (
    GetAnswer,
    GetRequest,
    HistoryAnswer,
    HistoryRequest,
    RebuildAnswer,
    RebuildRequest,
    SaidMessage,
    TaskDetail,
    TaskRecord,
    TasksAnswer,
    TasksRequest,
)
from schemas.signal import Answer, Broadcast, TaskSignal, Told
from schemas.worker import WorkerAnswer, WorkerRequest

FILES: Final = Path(__file__).parent / "files"
AT: Final = "2026-01-02T03:04:05.678901Z"
ERROR: Final = Error(
    code="handler_error", message="ValueError: no", hint="try", retryable=True, details={"a": [1, "b"]}
)
USAGE: Final = task.Usage(
    input_tokens=1, output_tokens=2, cache_read_tokens=3, cache_write_tokens=4, reasoning_tokens=5, requests=6,
    cost=task.Money(amount="0.00123"),
)  # fmt: skip
REF: Final = ObjectRef(digest=f"sha256-{'0123456789abcdef' * 4}", size=10_000_000, media_type="text/plain")
HEAD: Final = Head(
    phase="running", wake=4, cover=17, delivery=2, claim=5, owner="executor-1-ab", starts=1, cancel=True, tell=True,
    not_apps=("1", "2"),
)  # fmt: skip

DATA: Final[tuple[msgspec.Struct, ...]] = (
    task.TaskAccepted(
        agent="report", pool="shop", digest="d1", sequence=7, at=AT, input={"topic": "ötters"}, context_id="c",
        owner="t/u", deadline_s=1.5, metadata={"k": None}, unknown={"priority": 5}, parent="p", ancestors=("p", "q"),
    ),
    task.TaskStarted(
        wake=4, cover=17, delivery=2, owner="executor-1-ab", attempt=2, app_version="v1", definition="sha",
        agent="report",
    ),
    task.TaskSuspended(reason="nondeterministic", error=ERROR, not_apps=("1",), resume_after_s=5.0),
    task.TaskResumed(reason="app version 2"),
    task.TaskReleased(reason="drain"),
    task.TaskCompleted(output=["done", 1.5, None], usage=USAGE),
    task.TaskFailed(error=ERROR),
    task.TaskCanceled(reason="no need", parent="p", context_id="c"),
    task.TaskRejected(error=ERROR, digest="d1", sequence=7, agent="report", owner="t/u"),
    task.CancelRequested(id="cancel:1", reason="no need"),
    task.MessageReceived(id="m1", body={"text": "more"}),
    task.ContextDecided(decision="enqueue", other="t2"),
    task.ForkedFrom(task="t0", sequence=12),
    step.StepRequested(step="facts#2", kind="tool", name="facts", input={"q": 1}, idempotent=False),
    step.StepStarted(step="facts#2", attempt=2, by="tool-runner-1-ab"),
    step.StepProgress(step="facts#2", message="half", fraction=0.5),
    step.StepCompleted(step="facts#2", attempt=2, output={"n": 1}, usage=USAGE),
    step.StepFailed(step="facts#2", error=ERROR, attempt=2),
    step.TextAdded(text="hé🦦", offset=3, attempt=2, step="model", part=1, chunks=((0, 2), (12, 1))),
    step.ArtifactAdded(name="report.pdf", digest="SHA-256=x", size=5, media_type="application/pdf"),
    step.EventAdded(name="scored", data={"score": 1}),
)  # fmt: skip

LARGE: Final[tuple[msgspec.Struct, ...]] = (
    task.TaskAccepted(agent="report", pool="shop", digest="d1", sequence=7, at=AT, input_ref=REF),
    task.TaskCompleted(output_ref=REF, usage=USAGE),
    step.StepRequested(step="facts#2", kind="tool", name="facts", input_ref=REF),
    step.StepCompleted(step="facts#2", attempt=2, output_ref=REF),
    step.EventAdded(name="scored", data_ref=REF),
)  # fmt: skip

MODEL: Final[tuple[msgspec.Struct, ...]] = (
    step.StepRequested(
        step="model#2", kind="model", name="model",
        input=msgspec.to_builtins(
            Recipe(
                model="openai:m", definition="sha256-d", prompt="sha256-p", messages=3, after="model", input=True,
                added=(Message(role="tool", parts=(Part(kind="tool_result", call="c1", tool="facts", step="facts"),)),),
            )
        ),
    ),
    step.StepCompleted(
        step="model#2", attempt=2, usage=USAGE, streamed=(step.Streamed(1, ((0, 2), (25, 1))),),
        output=msgspec.to_builtins(
            Message(
                role="assistant", provider="openai", model="m", api="OpenAIResponses", finish_reason="tool_call",
                usage=USAGE, prices="genai-prices 1",
                parts=(
                    Part(kind="reasoning", text="hm", ext={"id": "r1"}), Part(kind="text", text="hé🦦"),
                    Part(kind="tool_call", call="c2", tool="facts", arguments='{"q": 1}'),
                ),
            )
        ),
    ),
)  # fmt: skip

RECORD: Final = TaskRecord(
    id="t", state="failed", phase="ended", agent="report", pool="shop", owner="t/u", context_id="c", parent="p",
    submit=7, first=3, sequence=9, commits=4, claims=1, status_sequence=9, submitted_at=AT, started_at=AT, status_at=AT,
    cancel_requested=True, error_code="handler_error",
)  # fmt: skip

MESSAGES: Final[dict[str, msgspec.Struct]] = {
    "session.get.request": GetRequest(v=1, id="t", submit=7, owner="t/u", sequence=9, wait_s=1.5),
    "session.get.answer": GetAnswer(
        v=1, sequence=9, error=ERROR,
        detail=TaskDetail(
            task=RECORD, input={"topic": "ötters"}, input_ref=REF, metadata={"k": 1}, output=["x"], output_ref=REF,
            usage=USAGE, error=ERROR, artifacts=(step.ArtifactAdded(name="a", digest=REF.digest, size=5),),
            omitted=("output",),
        ),
    ),
    "session.tasks.request": TasksRequest(
        v=1, state="failed", agent="report", context_id="c", owner="t/u", since=AT, limit=10, page_token="x",
        sequence=9, wait_s=1.5,
    ),
    "session.tasks.answer": TasksAnswer(v=1, sequence=9, tasks=(RECORD,), next_page_token="x", error=ERROR),
    "session.history.request": HistoryRequest(
        v=1, context_id="c", owner="t/u", limit=10, page_token="x", sequence=9, wait_s=1.5
    ),
    "session.history.answer": HistoryAnswer(
        v=1, sequence=9, next_page_token="x", error=ERROR,
        messages=(
            SaidMessage(
                task="t", role="user", at=AT, sequence=3, agent="report", owner="t/u", state="failed", content="hé",
                content_ref=REF,
            ),
        ),
    ),
    "session.rebuild.request": RebuildRequest(v=1),
    "session.rebuild.answer": RebuildAnswer(v=1, store="s", state="done", sequence=9, tasks=4, error=ERROR),
    "purge.logs": LogsPurged(v=1, by="session-store-1-ab", logs={"t": 9, "u--0123456789abc": 17}, floor=5),
    "command.submit": Submit(
        input={"topic": "ötters"}, task_id="t", context_id="c", owner="t/u", deadline_s=1.5, metadata={"k": 1},
        trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ),
    "command.submit.large": Submit(input_ref=REF, task_id="t"),
    "command.call": Call(
        v=1, task="t", root="t", first=3, last=9, n=4, head=HEAD, step="facts#2", tool="facts", arguments={"q": 1},
        timeout_s=1.5, again=True,
    ),
    "command.call.large": Call(
        v=1, task="t", root="t", first=3, last=9, n=4, head=HEAD, step="facts#2", tool="facts", arguments_ref=REF,
    ),
    "command.call.reply": Call(
        v=1, task="t", root="t", first=3, last=9, n=4, head=HEAD, step="facts#2", tool="facts", reply="_INBOX.a.told",
    ),
    "command.run": Run(v=1, task="t", root="t", first=3, last=9, n=4, head=HEAD, wake=4, not_apps=("1",)),
    "command.run.opening": Run(
        v=1, task="t", root="t", first=3, last=3, n=0, head=HEAD, wake=0, agent="report",
        opening=msgspec.Raw(b'{"v":1}'),
    ),
    "command.ended": Ended(v=1, task="t"),
    "command.fired": Fired(v=1, task="t", kind="deadline", delay_s=10.0),
    "command.dead": DeadLetter(
        v=1, task="t", error=ERROR, subject="mesh.submit.report", at=AT, headers={"A": "b"}, body="eA==",
        encoding="base64", size=1,
    ),
    "command.dead.numbered": DeadLetter(
        v=1, task="t", error=ERROR, subject="mesh.submit.report", at=AT, body="x", size=1, sequence=7,
    ),
    "signal.task": TaskSignal(kind="cancel", id="c1", reply="_INBOX.a", reason="no need", body=None),
    "signal.answer": Answer(task="t", outcome="refused", phase="ended", error=ERROR),
    "signal.broadcast": Broadcast(task="t", reason="no need"),
    "command.run.handed-on": Run(
        v=1, task="t", root="t", first=3, last=9, n=4, wake=4, agent="report",
        head=Head(phase="running", wake=4, cover=17, delivery=2, claim=5, cut_offs=1, deadline=True),
    ),
    "worker.request": WorkerRequest(kind="holds", seq=17, delivery=2),
    "worker.request.drain": WorkerRequest(kind="drain", within_s=1.5),
    "worker.answer": WorkerAnswer(worker="executor-1-ab", holds=True, draining=True, error="no"),
    "registry.worker.holding": WorkerRecord(
        v=1, worker="executor-1-ab", service="executor", held=(17,),
        replies=("$JS.ACK.MESH_RUN.run_shop.2.17.3.1767323045678901234.0",), agents=("report",),
    ),
    "signal.told": Told(seq=7, commit=msgspec.Raw(b'{"v":1}')),
    "delta": Delta(v=1, task="t", attempt=2, offset=3, text="hé", at=1.5, step="model", part=1, kind="reasoning"),
    "registry.app": AppRecord(
        v=1, app="shop", pool="shop", version="v1", at=AT,
        agents=(
            AgentRecord(
                name="report", description="Writes.", input_schema={"type": "string"}, output_schema={"type": "string"}
            ),
        ),
    ),
    "registry.app.model": AppRecord(
        v=1, app="shop", pool="shop", version="v1", at=AT,
        agents=(AgentRecord(name="clerk", model="openai:m", tools=("facts",)),),
        tools=(ToolRecord(name="facts", timeout_s=5.0, max_attempts=3, max_concurrent=4),),
    ),
    "registry.worker.unlisted": WorkerRecord(
        v=1, worker="executor-1-ab", service="executor", in_flight=2, held=(17,),
        replies=("$JS.ACK.MESH_RUN.run_shop.2.17.3.1767323045678901234.0",), unlisted=1,
    ),
    "registry.worker.stuck": WorkerRecord(
        v=1, worker="executor-1-ab", service="executor", stuck="the event loop is blocked", problems=("no key",)
    ),
    "service.ping": ServicePing(name="mesh-router", id="router-1-ab", version="0.1.0", metadata={"health": "ok"}),
    "service.info": ServiceInfo(
        name="mesh-router", id="router-1-ab", version="0.1.0", metadata={"health": "ok"}, description="The router",
        endpoints=(EndpointInfo(name="router_submit", subject="mesh.submit.>", queue_group="router_submit"),),
    ),
    "service.stats": ServiceStats(
        name="mesh-router", id="router-1-ab", version="0.1.0", metadata={"health": "ok"}, started=AT,
        endpoints=(
            EndpointStats(
                name="router_submit", subject="mesh.submit.>", queue_group="router_submit", num_requests=2,
                num_errors=1, last_error="ValueError: no", processing_time=3_000, average_processing_time=1_500,
                data=QueueState(
                    in_flight=1, slots=500, pending=7, unacknowledged=1, redelivered=0, last_progress=AT, oldest_s=0.5
                ),
            ),
        ),
    ),
    "registry.worker": WorkerRecord(
        v=1, worker="executor-1-ab", service="executor", pool="shop", app_version="v1", pid=7, host="h", in_flight=2,
        draining=True, abandoned_threads=1, held=(5, 6),
    ),
}  # fmt: skip


def commit(*events: Event) -> Commit:
    """A commit around one event, with every field of the envelope."""
    return Commit(
        v=1, task="t", n=4, nonce="0123456789abcdef", by="executor/executor-1-ab", at=AT, head=HEAD, events=events,
        first=3, trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )  # fmt: skip


def bodies() -> dict[str, bytes]:
    """Every sample as it goes over the wire, by the name of its file."""
    found = {f"event.{event(data).type}": encode(commit(event(data))) for data in DATA}
    found |= {f"event.{event(data).type}.large": encode(commit(event(data))) for data in LARGE}
    found |= {f"event.{event(data).type}.model": encode(commit(event(data))) for data in MODEL}
    return found | {name: msgspec.json.encode(message) for name, message in MESSAGES.items()}


def decoded(name: str, body: bytes) -> Any:
    """A body as a reader of today understands it."""
    if name.startswith("event."):
        from schemas.envelope import decode

        return decode(body)
    return msgspec.json.decode(body, type=type(MESSAGES[name]))


def write_new() -> None:
    """Writes what has no file yet."""
    FILES.mkdir(exist_ok=True)
    for name, body in bodies().items():
        file = FILES / f"{name}.json"
        if not file.exists():
            file.write_bytes(body)


if __name__ == "__main__":
    assert {event(data).type for data in DATA} == set(EVENTS)
    write_new()
