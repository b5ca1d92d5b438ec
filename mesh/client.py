"""The caller's side: submit tasks, follow them, cancel them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import msgspec
from msgspec import Struct

from mesh.agents.artifacts import Artifact, newest_digest
from mesh.bus import Bus
from mesh.errors import BusUnavailable, InvalidInput, ResultTimeout, TooLarge
from mesh.log.large import restore, spill
from mesh.log.merge import TaskEvent
from mesh.log.objects import MeshObjects
from mesh.log.reading import read_log
from mesh.log.tail import Tail
from mesh.probe import require_mesh
from mesh.sessions.asking import Page, SessionStore, Talk, since_text
from mesh.subjects import Subjects
from schemas import signal, task
from schemas.command import DEFAULT_OWNER, Refusal, Submit, parse_submit
from schemas.envelope import VERSION
from schemas.error import Error
from schemas.ids import is_name, is_task_id, new_id
from schemas.object import LARGE_BYTES, MAX_VALUE_BYTES, ObjectRef
from schemas.session import DEFAULT_LIMIT, GetRequest, HistoryRequest, TaskDetail, TasksRequest
from schemas.signal import Answer, TaskSignal
from schemas.task import State, TaskCanceled, TaskCompleted, TaskFailed, TaskRejected, Usage

if TYPE_CHECKING:
    from mesh.agents.app import Agent

TIMEOUT_S: Final = 5.0
S = TypeVar("S", bound=Struct)
_STATES: Final[dict[str, task.State]] = {
    task.COMPLETED: "completed",
    task.FAILED: "failed",
    task.CANCELED: "canceled",
    task.REJECTED: "rejected",
}


class Result(Struct, frozen=True, kw_only=True):
    """How a task ended; `output` is set if it completed, `error` if not.

    `output_ref` says where a large output is as long as nobody has fetched it; `Client.result` does.
    """

    id: str
    state: task.State
    output: Any = None
    error: Error | None = None
    usage: Usage | None = None
    artifacts: tuple[Artifact, ...] = ()
    output_ref: ObjectRef | None = None


class _Session:
    """The connection that a client and its handles share."""

    def __init__(self, url: str, names: Subjects, timeout_s: float) -> None:
        self.url = url
        self.names = names
        self.timeout_s = timeout_s
        self._bus: Bus | None = None

    @property
    def bus(self) -> Bus:
        if self._bus is None:
            raise BusUnavailable("this client is not connected", hint="use `async with Client.connect(url) as client`")
        return self._bus

    @property
    def objects(self) -> MeshObjects:
        return MeshObjects(self.bus, self.names)

    @property
    def store(self) -> SessionStore:
        return SessionStore(self.bus, self.names)

    async def open(self) -> None:
        bus = await Bus.connect(self.url, name=f"client-{secrets.token_hex(3)}", timeout_s=self.timeout_s)
        try:
            await require_mesh(bus, self.names)
        except BaseException:
            await bus.aclose()
            raise
        self._bus = bus

    async def aclose(self) -> None:
        if self._bus is not None:
            bus, self._bus = self._bus, None
            await bus.aclose()

    async def tail(self, id: str, cursor: str | None, *, wait: bool, ahead: bool = True) -> AsyncGenerator[TaskEvent]:
        tail = Tail(self.bus, self.names, id, cursor=cursor, wait=wait, ahead=ahead)
        async with aclosing(tail.events()) as events:
            async for event in events:
                yield event

    async def result(self, id: str, timeout_s: float | None, *, wait: bool) -> Result:
        artifacts: list[Artifact] = []
        try:
            async with asyncio.timeout(timeout_s), aclosing(self.tail(id, None, wait=wait, ahead=False)) as events:
                async for event in events:
                    if isinstance(event.data, Artifact):
                        artifacts.append(event.data)
                    if event.type in task.TERMINAL:
                        return await restore(result_of(id, event, tuple(artifacts)), self.objects)
        except TimeoutError:
            raise ResultTimeout(
                f"task '{id}' has not ended within {timeout_s} s", hint="it goes on; ask again, or cancel it"
            ) from None
        raise AssertionError("a tail ends with the terminal event")

    async def cancel(self, id: str, reason: str | None) -> Answer:
        reply = self.bus.new_inbox()
        request = TaskSignal(kind=signal.CANCEL, id=f"cancel:{secrets.token_hex(8)}", reply=reply, reason=reason or "")
        answers: asyncio.Queue[bytes] = asyncio.Queue()
        listening = await self.bus.subscribe(reply, lambda message: answers.put_nowait(message.data))
        async with aclosing(listening):
            await self.bus.publish(self.names.signal(id), _encode(request), timeout_s=self.timeout_s)
            try:
                async with asyncio.timeout(self.timeout_s):
                    return msgspec.json.decode(await answers.get(), type=Answer)
            except TimeoutError:
                raise BusUnavailable(
                    "the cancel request is stored, but no router has answered",
                    hint="it takes effect when a router runs: `mesh service router`",
                ) from None


class Task:
    """A handle of one task; it holds nothing but the id and the connection.

    One that `submit` returned waits until the task is admitted; one by id alone finds it or raises UnknownTask.
    """

    def __init__(self, session: _Session, id: str, *, submitted: bool) -> None:
        self._session = session
        self._submitted = submitted
        self.id = id

    def __repr__(self) -> str:
        return f"<Task {self.id}>"

    def tail(self, cursor: str | None = None) -> AsyncGenerator[TaskEvent]:
        """Every event of the task from `cursor` on; ends after the terminal one.

        Raises: UnknownTask, CursorExpired, InvalidInput for a bad cursor, BusUnavailable on the first read.
        """
        return self._session.tail(self.id, cursor, wait=self._submitted)

    async def result(self, timeout_s: float | None = None) -> Result:
        """Waits for the end; never raises for a task that failed.

        Raises: ResultTimeout (the task goes on), UnknownTask, BusUnavailable, ArtifactMissing (a large output is gone).
        """
        return await self._session.result(self.id, timeout_s, wait=self._submitted)

    async def cancel(self, reason: str | None = None) -> Answer:
        """Asks the task to stop; as `Client.cancel`."""
        return await self._session.cancel(self.id, reason)


class _Connecting:
    """`async with Client.connect(url)` or `await Client.connect(url)`."""

    def __init__(self, session: _Session) -> None:
        self._session = session

    def __await__(self) -> Generator[Any, None, Client]:
        return self._open().__await__()

    async def __aenter__(self) -> Client:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.aclose()

    async def _open(self) -> Client:
        await self._session.open()
        return Client(self._session)


class Client:
    """A connection to a mesh, as a caller; made by `Client.connect`.

    *Cancellation:* leaving a tail or a result stops nothing; only `cancel` does.
    """

    def __init__(self, session: _Session) -> None:
        self._session = session

    @classmethod
    def connect(
        cls, url: str = "nats://127.0.0.1:4222", *, prefix: str = "mesh", timeout_s: float = TIMEOUT_S
    ) -> _Connecting:
        """Connects to the mesh at `url`; an async context manager, and awaitable.

        `timeout_s` bounds each single request to the broker.

        Raises: BusUnavailable if nothing answers there, NotAMesh if it is some other NATS server.
        """
        return _Connecting(_Session(url, Subjects(prefix), timeout_s))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connection; tasks go on."""
        await self._session.aclose()

    async def submit(
        self,
        agent: Agent | str,
        input: Any,
        *,
        task_id: str | None = None,
        context_id: str | None = None,
        owner: str | None = None,
        deadline_s: float | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Task:
        """Publishes a task; returns when the broker has stored it.

        The same `task_id` with the same body runs once, so a submit that failed may be repeated. A large input is kept
        in the object store first.

        *Delivery:* stored before this returns; from then on it ends with exactly one terminal event.

        Raises: InvalidInput before anything is sent; BusUnavailable if it is not known to be stored (repeat it with
        the same `task_id`); StorageFull, TooLarge, PermissionDenied.
        """
        name = agent if isinstance(agent, str) else agent.name
        if not is_name(name):
            raise InvalidInput(f"'{name}' is no name an agent can have")
        task_id = task_id if task_id is not None else new_id(int(time.time() * 1000))
        submit = Submit(
            input=input, task_id=task_id, context_id=context_id, owner=owner or DEFAULT_OWNER, deadline_s=deadline_s,
            metadata=metadata,
        )  # fmt: skip
        body = _encode(submit)
        if len(body) > MAX_VALUE_BYTES:
            raise TooLarge(f"a submit of {len(body)} bytes is over the limit of {MAX_VALUE_BYTES}")
        read = parse_submit(name, body)
        if isinstance(read, Refusal):
            raise InvalidInput(read.error.message, hint=read.error.hint)
        session = self._session
        if len(body) > LARGE_BYTES:
            body = _encode(await spill(submit, session.objects))
        await session.bus.publish(session.names.submit(name), body, timeout_s=session.timeout_s)
        return Task(session, task_id, submitted=True)

    def task(self, id: str) -> Task:
        """A handle of a task by its id, without asking whether it exists."""
        return Task(self._session, _checked(id), submitted=False)

    def tail(self, id: str, cursor: str | None = None) -> AsyncGenerator[TaskEvent]:
        """Every event of a task from `cursor` on; ends after the terminal one.

        Raises: UnknownTask, CursorExpired, InvalidInput for a bad cursor, BusUnavailable on the first read.
        """
        return self._session.tail(_checked(id), cursor, wait=False)

    async def result(self, id: str, timeout_s: float | None = None) -> Result:
        """Waits for the end of a task; never raises for one that failed.

        Raises: ResultTimeout (the task goes on), UnknownTask, BusUnavailable, ArtifactMissing if a large output is
        gone.
        """
        return await self._session.result(_checked(id), timeout_s, wait=False)

    async def get(self, id: str | int, *, owner: str | None = None, sequence: int = 0) -> TaskDetail:
        """One task as the session store has it: by its id, or by the sequence of its submit.

        With an `owner` only one of theirs. With a `sequence` the answer includes at least that of the log.

        Raises: UnknownTask, ViewBehind if the store does not come so far in time, BusUnavailable if none answers.
        """
        asked = {"submit": id} if isinstance(id, int) else {"id": _checked(id)}
        return await self._session.store.get(
            msgspec.convert({"v": VERSION, "owner": owner, "sequence": sequence, **asked}, GetRequest)
        )

    async def tasks(
        self,
        *,
        state: State | None = None,
        agent: str | None = None,
        context_id: str | None = None,
        owner: str | None = None,
        since: datetime | float | str | None = None,
        limit: int = DEFAULT_LIMIT,
        page_token: str | None = None,
        sequence: int = 0,
    ) -> Page:
        """The tasks that fit everything given, the newest status first; at most 100 at once.

        There are more where the page has a `next_page_token`; give it with the same question. Where little fits several
        filters, a page may be short, even empty, and there are more.

        Raises: InvalidInput, ViewBehind, BusUnavailable if no session store answers.
        """
        request = TasksRequest(
            v=VERSION, state=state, agent=agent, context_id=context_id, owner=owner, since=since_text(since),
            limit=limit, page_token=page_token, sequence=sequence,
        )  # fmt: skip
        return await self._session.store.tasks(request)

    async def history(
        self,
        context_id: str,
        *,
        owner: str | None = None,
        limit: int = DEFAULT_LIMIT,
        page_token: str | None = None,
        sequence: int = 0,
    ) -> Talk:
        """What was said in a conversation, task by task; a task without a context is its own.

        Raises: InvalidInput, ViewBehind, BusUnavailable if no session store answers.
        """
        request = HistoryRequest(
            v=VERSION, context_id=context_id, owner=owner, limit=limit, page_token=page_token, sequence=sequence
        )
        return await self._session.store.history(request)

    async def artifacts(self, id: str) -> tuple[Artifact, ...]:
        """The artifacts of a task so far, in the order of its log; of one name the last is the newest.

        Raises: UnknownTask, BusUnavailable.
        """
        entries = await read_log(self._session.bus, self._session.names, _checked(id))
        events = (event.data for entry in entries for event in entry.commit.events)
        return tuple(data for data in events if isinstance(data, Artifact))

    async def read_artifact(self, id: str, artifact: Artifact | str) -> bytes:
        """The body of an artifact of a task: by itself, by name (the newest), or by digest.

        Raises: ArtifactMissing, UnknownTask, BusUnavailable; ArtifactDamaged where what is kept does not fit.
        """
        return await self._session.objects.read(await self._digest(id, artifact))

    async def open_artifact(self, id: str, artifact: Artifact | str) -> AsyncGenerator[bytes]:
        """The same piece by piece; it counts once the last piece has come and nothing was raised.

        Raises: as `read_artifact`.
        """
        async with aclosing(self._session.objects.open(await self._digest(id, artifact))) as pieces:
            async for piece in pieces:
                yield piece

    async def restore(self, data: S) -> S:
        """The data of an event with its value in place, where that is large and stands in the object store.

        Raises: ArtifactMissing, BusUnavailable.
        """
        return await restore(data, self._session.objects)

    async def _digest(self, id: str, artifact: Artifact | str) -> str:
        if isinstance(artifact, Artifact):
            return artifact.digest
        return newest_digest(artifact, await self.artifacts(id), f"task '{id}' has")

    async def cancel(self, id: str, reason: str | None = None) -> Answer:
        """Asks a task to stop; returns the router's answer.

        *Delivery:* the request is stored before this waits, so it takes effect even if no answer comes in time.

        Raises: BusUnavailable if the request is not known to be stored, or no router answered.
        """
        return await self._session.cancel(_checked(id), reason)


def result_of(id: str, event: TaskEvent, artifacts: tuple[Artifact, ...] = ()) -> Result:
    """The result that a terminal event says; a large output stays where it is."""
    data, state = event.data, _STATES[event.type]
    if isinstance(data, TaskCompleted):
        return Result(
            id=id, state=state, output=data.output, usage=data.usage, artifacts=artifacts, output_ref=data.output_ref
        )
    error = data.error if isinstance(data, TaskFailed | TaskRejected) else None
    usage = data.usage if isinstance(data, TaskFailed | TaskCanceled) else None
    return Result(id=id, state=state, error=error, usage=usage, artifacts=artifacts)


def _encode(body: Struct) -> bytes:
    try:
        return msgspec.json.encode(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"this cannot be sent as JSON: {error}") from error


def _checked(id: str) -> str:
    if not is_task_id(id):
        raise InvalidInput(f"'{id}' is no task id", hint="ids are 1 to 64 of A-Z a-z 0-9 _ -")
    return id
