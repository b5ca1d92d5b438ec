"""The work of `mesh context`."""

from __future__ import annotations

from typing import Final

import msgspec
import typer
from msgspec.structs import replace

from mesh.cli.listings import Answering, Part, answering, show_pages
from mesh.cli.notes import Notes
from mesh.cli.outcome import COMPLETED, FAILED
from mesh.cli.places import operated
from mesh.cli.plain import plain
from mesh.errors import InvalidInput
from mesh.sessions import SessionStore
from schemas.envelope import VERSION
from schemas.session import (
    MAX_LIMIT,
    ContextRecord,
    ContextsRequest,
    DeleteRequest,
    HistoryRequest,
    SaidMessage,
    TaskRecord,
    TasksRequest,
)

MAX_NAMED: Final = 5


async def list_contexts(owner: str | None, *, limit: int, server: str | None, json: bool) -> int:
    """Prints one line per conversation, and whether there are more; the exit code."""
    async with answering(server) as answers:
        first = ContextsRequest(v=VERSION, owner=owner, sequence=answers.sequence)

        async def page(limit: int, token: str | None) -> Part[ContextRecord]:
            found = await answers.store.contexts(replace(first, limit=limit, page_token=token))
            return Part(found.contexts, found.next_page_token)

        shown = await show_pages(page, limit, lambda one: msgspec.json.encode(one) if json else _line(one))
    if not shown:
        Notes().say("there are no conversations; a task belongs to one by `--context ID`")
    return COMPLETED


async def show_context(context: str, owner: str | None, *, limit: int, server: str | None, json: bool) -> int:
    """Prints what was said, the oldest first; the exit code."""
    async with answering(server) as answers:
        first = HistoryRequest(v=VERSION, context_id=context, owner=owner, sequence=answers.sequence)

        async def page(limit: int, token: str | None) -> Part[SaidMessage]:
            found = await answers.store.history(replace(first, limit=limit, page_token=token))
            return Part(found.messages, found.next_page_token)

        shown = await show_pages(page, limit, lambda said: msgspec.json.encode(said) if json else _said(said))
    if not shown:
        Notes().error(f"nothing was said in conversation '{plain(context)}'", "`mesh context ls` lists them")
        return FAILED
    return COMPLETED


async def delete_context(context: str, owner: str | None, *, server: str | None) -> int:
    """Deletes a conversation whose tasks have ended; the exit code."""
    async with operated(server, "context") as (bus, names):
        answers = Answering(SessionStore(bus, names), await bus.last_sequence(names.tasks))
        _check_ended(context, owner, await _tasks(answers, context, owner))
        request = DeleteRequest(v=VERSION, context_id=context, owner=owner, sequence=answers.sequence)
        deleted = await answers.store.delete(request)
    typer.echo(f"conversation '{plain(context)}' is deleted, with the logs of its tasks: {deleted}")
    return COMPLETED


async def _tasks(answers: Answering, context: str, owner: str | None) -> list[TaskRecord]:
    request = TasksRequest(v=VERSION, context_id=context, owner=owner, limit=MAX_LIMIT, sequence=answers.sequence)
    found: list[TaskRecord] = []
    while True:
        page = await answers.store.tasks(request)
        found += page.tasks
        if page.next_page_token is None:
            return found
        request = replace(request, page_token=page.next_page_token)


def _check_ended(context: str, owner: str | None, tasks: list[TaskRecord]) -> None:
    if not tasks:
        raise InvalidInput(f"there is no conversation '{plain(context)}'", hint="`mesh context ls` lists them")
    owners = sorted({task.owner for task in tasks})
    if owner is None and len(owners) > 1:
        raise InvalidInput(
            f"conversation '{plain(context)}' is that of {', '.join(owners)}", hint="say whose: --owner TENANT/USER"
        )
    running = [task.id for task in tasks if task.phase != "ended"]
    if running:
        more = f" and {len(running) - MAX_NAMED} more" if len(running) > MAX_NAMED else ""
        raise InvalidInput(
            f"tasks of this conversation have not ended: {', '.join(running[:MAX_NAMED])}{more}",
            hint="wait for them, or end them with `mesh cancel TASK`",
        )


def _line(context: ContextRecord) -> str:
    tasks = f"{context.tasks} task{'' if context.tasks == 1 else 's'}" + (
        f", {context.open} not ended" if context.open else ""
    )
    return f"{plain(context.context_id):32}  {context.status_at[:19]}  {context.owner}  {tasks}"


def _said(message: SaidMessage) -> str:
    who = message.agent if message.role == "assistant" else message.role
    if message.content_ref is not None:
        text = f"({message.content_ref.size} bytes: mesh show {message.task})"
    elif isinstance(message.content, str):
        text = "\n".join(plain(line) for line in message.content.splitlines())
    else:
        text = msgspec.json.encode(message.content).decode()
    return f"{message.at[:19]}  {who}  (task {message.task})\n{text}\n"
