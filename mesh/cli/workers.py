"""The work of `mesh worker`."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, Final

import msgspec
import typer

from mesh.bus import Bus
from mesh.cli.notes import Notes
from mesh.cli.outcome import COMPLETED
from mesh.cli.places import operated
from mesh.cli.plain import plain
from mesh.errors import BusUnavailable, InvalidInput, MeshError
from mesh.progress import HeldTask, duration, held_tasks
from mesh.registry import Registry, read_registry
from mesh.subjects import Subjects
from schemas.agent import WorkerRecord
from schemas.worker import DRAIN, WorkerAnswer, WorkerRequest

ANSWER_S: Final = 5.0
MAX_TASKS: Final = 3


async def list_workers(service: str | None, *, server: str | None, json: bool) -> int:
    """Prints one line per worker; the exit code."""
    async with operated(server, "worker") as (bus, names):
        registry = await read_registry(bus, names)
        workers = registry.workers if service is None else tuple(registry.of_service(service))
        for worker in workers:
            tasks = await held_tasks(bus, names, worker)
            typer.echo(msgspec.json.encode(_plain(worker, tasks)) if json else _line(worker, tasks))
    if not workers and service and registry.workers:
        there = ", ".join(sorted({worker.service for worker in registry.workers}))
        Notes().say(f"no worker of service '{service}' is there; there are: {there}")
    elif not workers:
        Notes().say("no worker is there; start some with `mesh dev` or `mesh service`")
    return COMPLETED


async def drain_worker(name: str, within_s: float | None, *, wait: bool, server: str | None) -> int:
    """Tells a worker to leave, and perhaps waits until it has; the exit code."""
    async with operated(server, "worker") as (bus, names):
        _check_there(name, await read_registry(bus, names))
        answer = await _ask(bus, names.worker(name), WorkerRequest(kind=DRAIN, within_s=within_s))
        if answer.error:
            raise MeshError(f"worker '{name}' does not drain: {answer.error}", hint="it may be of an older version")
        if not wait:
            typer.echo(f"{name} is draining")
            return COMPLETED
        await _until_gone(bus, names, name)
        typer.echo(f"{name} has left")
    return COMPLETED


async def _ask(bus: Bus, subject: str, request: WorkerRequest) -> WorkerAnswer:
    try:
        reply = await bus.request(subject, msgspec.json.encode(request), timeout_s=ANSWER_S)
    except BusUnavailable as error:
        raise MeshError(
            "the worker does not answer: it died, is cut off, or its process stands still",
            hint="its record expires by itself if it died; its tasks go on elsewhere",
        ) from error
    return msgspec.json.decode(reply.data, type=WorkerAnswer)


async def _until_gone(bus: Bus, names: Subjects, name: str) -> None:
    gone = asyncio.Event()

    def take(key: str, value: bytes | None) -> None:
        if key == name and value is None:
            gone.set()

    async with aclosing(await bus.watch(names.workers, take)):
        if await bus.fetch(names.workers, name) is not None:
            await gone.wait()


def _check_there(name: str, registry: Registry) -> None:
    if any(worker.worker == name for worker in registry.workers):
        return
    there = ", ".join(worker.worker for worker in registry.workers) or "there is none"
    raise InvalidInput(f"no worker '{name}' is there", hint=f"workers: {there}")


def _plain(worker: WorkerRecord, tasks: list[HeldTask]) -> dict[str, Any]:
    fields = ("worker", "service", "pool", "app_version", "host", "pid", "in_flight", "draining", "held", "stuck")
    return {name: getattr(worker, name) for name in fields} | {"tasks": tasks}


def _line(worker: WorkerRecord, tasks: list[HeldTask]) -> str:
    serves = f"{worker.pool} {worker.app_version}".strip() or "-"
    more = f" and {len(tasks) - MAX_TASKS} more" if len(tasks) > MAX_TASKS else ""
    named = ", ".join(f"{one.task} (quiet {duration(one.quiet_s)})" for one in tasks[:MAX_TASKS])
    holds = f": {named}{more}" if tasks else ""
    state = (", draining" if worker.draining else "") + (f", stuck: {plain(worker.stuck)}" if worker.stuck else "")
    threads = f", {worker.abandoned_threads} abandoned calls" if worker.abandoned_threads else ""
    return (
        f"{worker.worker:32} {serves:20} {worker.host} pid {worker.pid}  "
        f"{worker.in_flight} in flight{state}{threads}{holds}"
    )
