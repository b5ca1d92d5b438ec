"""Every message that goes over the bus: who says it where, and what its body is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from msgspec import Struct

from schemas import agent, command, delta, envelope, purge, service, session, signal, worker

Side = Literal["in", "out", "inside"]


class Message(Struct, frozen=True, kw_only=True):
    """One kind of message.

    `subject` has its variables in braces, empty where the message goes to the inbox of who asked. Seen from the mesh it
    comes `in` from a caller, goes `out` to one, or stays `inside`, between services. `answered_by` names the message
    that answers it. `text` says that plain text is taken too.
    """

    name: str
    body: type[Struct]
    subject: str
    side: Side
    summary: str
    answered_by: str = ""
    text: bool = False


def _question(kind: str, body: type[Struct], answer: type[Struct], summary: str) -> tuple[Message, Message]:
    answered_by = f"{kind}_answer"
    return (
        Message(
            name=f"{kind}_request", body=body, subject=f"{{prefix}}.session.{kind}", side="in", summary=summary,
            answered_by=answered_by,
        ),
        Message(name=answered_by, body=answer, subject="", side="out", summary=f"Answers `{kind}_request`."),
    )  # fmt: skip


def _micro(verb: str, body: type[Struct], summary: str) -> Message:
    return Message(name=f"service_{verb}", body=body, subject="", side="out", summary=summary)


_TASK: Final = "{root}.{task}"

_ALL: Final[tuple[Message, ...]] = (
    Message(
        name="submit", body=command.Submit, subject="{prefix}.submit.{agent}", side="in", text=True,
        summary="Submit a task to an agent.",
    ),
    Message(
        name="signal", body=signal.TaskSignal, subject=f"{{prefix}}.signal.{_TASK}", side="in",
        summary="Ask something of a task: cancel it.", answered_by="answer",
    ),
    Message(name="answer", body=signal.Answer, subject="", side="out", summary="What became of a signal."),
    Message(
        name="log", body=envelope.Commit, subject=f"{{prefix}}.log.{_TASK}", side="out",
        summary="Each commit of a task's log, republished by the broker once it is stored.",
    ),
    Message(
        name="delta", body=delta.Delta, subject=f"{{prefix}}.delta.{_TASK}", side="out",
        summary="Text on its way, ahead of the log.",
    ),
    Message(
        name="dead_letter", body=command.DeadLetter, subject="{prefix}.dead.{kind}.{task}", side="out",
        summary="A message that could not be understood, routed or finished.",
    ),
    *_question("get", session.GetRequest, session.GetAnswer, "One task."),
    *_question("tasks", session.TasksRequest, session.TasksAnswer, "A list of tasks."),
    *_question("history", session.HistoryRequest, session.HistoryAnswer, "What was said in a conversation."),
    *_question("contexts", session.ContextsRequest, session.ContextsAnswer, "A list of conversations."),
    *_question("delete", session.DeleteRequest, session.DeleteAnswer, "Forget a conversation."),
    *_question("rebuild", session.RebuildRequest, session.RebuildAnswer, "Make the view anew from the log."),
    Message(
        name="commit", body=envelope.Commit, subject=f"{{prefix}}.task.{_TASK}", side="inside",
        summary="The task's log itself. Listen to `log`: a listener here also hears appends that were refused.",
    ),
    Message(
        name="purged", body=purge.LogsPurged, subject="{prefix}.purged", side="inside",
        summary="Logs that are gone; stands among the logs, so that every view forgets them at the same place.",
    ),
    Message(
        name="run", body=command.Run, subject="{prefix}.run.{pool}", side="inside", summary="Run a task."
    ),
    Message(
        name="call", body=command.Call, subject="{prefix}.call.{pool}", side="inside",
        summary="Make a tool call.", answered_by="told",
    ),
    Message(name="told", body=signal.Told, subject="", side="inside", summary="A commit, to who waits for it."),
    Message(
        name="ended", body=command.Ended, subject=f"{{prefix}}.ended.{_TASK}", side="inside",
        summary="A task ended and somebody waits for that.",
    ),
    Message(
        name="timer", body=command.Fired, subject="{prefix}.later.{timer}", side="inside",
        summary="A timer: a message schedule whose target is `fired`.",
    ),
    Message(
        name="fired", body=command.Fired, subject=f"{{prefix}}.fired.{_TASK}", side="inside",
        summary="A timer of a task has fired.",
    ),
    Message(
        name="cancel", body=signal.Broadcast, subject="{prefix}.cancel.{root}", side="inside",
        summary="Stop now: the fast path of a cancel.",
    ),
    Message(
        name="worker_request", body=worker.WorkerRequest, subject="{prefix}.worker.{worker}", side="inside",
        summary="A question or an order to one worker.", answered_by="worker_answer",
    ),
    Message(
        name="worker_answer", body=worker.WorkerAnswer, subject="", side="inside", summary="Answers `worker_request`."
    ),
    Message(
        name="app", body=agent.AppRecord, subject="$KV.{prefix}_agents.{app}", side="inside",
        summary="One app in the registry.",
    ),
    Message(
        name="worker", body=agent.WorkerRecord, subject="$KV.{prefix}_workers.{worker}", side="inside",
        summary="One worker that lives.",
    ),
    _micro("ping", service.ServicePing, "A service is there, and how it is: answers `$SRV.PING`."),
    _micro("info", service.ServiceInfo, "What a service is: answers `$SRV.INFO`."),
    _micro("stats", service.ServiceStats, "What a service does: answers `$SRV.STATS`."),
)  # fmt: skip

MESSAGES: Final[Mapping[str, Message]] = MappingProxyType({one.name: one for one in _ALL})
