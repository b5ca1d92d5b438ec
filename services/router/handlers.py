"""The router's deliveries: decode, decide, append, publish, answer."""

from __future__ import annotations

import msgspec
import structlog
from msgspec import UNSET

from mesh.bus import Delivery
from mesh.errors import TooLarge
from mesh.log import dead_letters
from mesh.log.driver import Driver
from mesh.log.ops import Ack, Nak, Verdict
from mesh.settings import Settings
from mesh.subjects import is_inbox, root_of
from mesh.worker import Held
from schemas import command, signal
from schemas import error as codes
from schemas.command import Admission, Fired, Refusal, Submit, parse_submit
from schemas.error import Error
from schemas.ids import derived_id, is_name, is_task_id
from schemas.instant import rfc3339
from schemas.signal import Answer, TaskSignal
from schemas.task import TaskAccepted, TaskRejected
from schemas.unreadable import UNREADABLE
from services.router import rules
from services.router.registry import AgentRegistry

KEEP_MARGIN = 0.9
# Submits to names that nobody knows wait for their grace in a slot; they must leave room for all others.
MAX_WAITING_SHARE = 4
CROWDED_DELAY_S = 0.5
MAX_SIGNAL_ID = 256
_INVALID = {"signal": dead_letters.INVALID_SIGNAL, "fired": dead_letters.INVALID_FIRED}
log = structlog.get_logger("mesh.router")


class Handlers:
    """Answers the router's two consumers: submits, and everything else."""

    def __init__(
        self, driver: Driver, router: rules.Router, registry: AgentRegistry, settings: Settings, *, stream_created: str
    ) -> None:
        self._driver = driver
        self._router = router
        self._registry = registry
        self._stream_created = stream_created
        self._settings = settings

    async def submit(self, held: Held) -> Verdict:
        """One message on `mesh.submit.<agent>`."""
        delivery = held.delivery
        agent = delivery.subject.split(".", 2)[2]
        if not is_name(agent):
            error = Error(code=codes.UNKNOWN_AGENT, message=f"'{agent}' is no name an agent can have")
            return await self._driver.bury(dead_letters.INVALID_SUBJECT, dead_letters.NO_TASK, error, delivery)
        if await self._too_old(delivery):
            error = _expired(self._settings.keep_s)
            return await self._driver.bury(dead_letters.EXPIRED, dead_letters.NO_TASK, error, delivery)
        read = parse_submit(agent, delivery.data)
        task = _task_id(read) or derived_id(delivery.at_ms, self._stream_created, delivery.seq)
        crowded = self._registry.waiting >= self._settings.router_slots // MAX_WAITING_SHARE
        if crowded and isinstance(read, Admission) and self._registry.pool_of(agent) is None:
            return Nak(CROWDED_DELAY_S)
        opening = await self._opening(agent, read, delivery)
        if isinstance(opening, TaskRejected):
            log.warning("rejected", task=task, agent=agent, error=opening.error.message, hint=opening.error.hint)
        trace = read.submit.trace if isinstance(read, Admission) else ""
        letter = dead_letters.contents(task, rules.duplicate_error(task), delivery)
        order = rules.Order(task=task, opening=opening, letter=letter, sequence=delivery.seq, trace=trace)
        try:
            return await self._driver.drive(rules.submit(self._router, order))
        except TooLarge as error:
            refused = _rejected(agent, error.to_error(), read.digest, delivery)
            return await self._driver.drive(rules.submit(self._router, msgspec.structs.replace(order, opening=refused)))

    async def _too_old(self, delivery: Delivery) -> bool:
        """A2: the log that this submit would repeat may have been purged already."""
        keep_s = self._settings.keep_s
        return keep_s > 0 and await self._driver.broker.now() - delivery.at > keep_s * KEEP_MARGIN

    async def signal(self, held: Held) -> Verdict:
        """One message on `mesh.signal`, `mesh.fired` or `mesh.ended`."""
        _, kind, root, *rest = held.delivery.subject.split(".")
        task = rest[0] if len(rest) == 1 else ""
        if not is_task_id(task) or root != root_of(task):
            error = Error(code=codes.INVALID_INPUT, message="this subject does not end in <root>.<task>")
            return await self._driver.bury(dead_letters.INVALID_SUBJECT, dead_letters.NO_TASK, error, held.delivery)
        try:
            if kind == "signal":
                return await self._signal(task, held.delivery)
            if kind == "fired":
                due = msgspec.json.decode(held.delivery.data, type=Fired)
                if due.task != task:
                    raise msgspec.ValidationError("it is about another task than its subject")
                if due.kind == command.RESUME:
                    await self._registry.look()
                return await self._driver.drive(rules.fired(self._router, due))
        except (*UNREADABLE, LookupError) as error:
            wrong = Error(code=codes.INVALID_INPUT, message=f"this {kind} cannot be followed: {error}")
            return await self._driver.bury(_INVALID[kind], task, wrong, held.delivery)
        return Ack()

    async def _signal(self, task: str, delivery: Delivery) -> Verdict:
        request = msgspec.json.decode(delivery.data, type=TaskSignal)
        try:
            answer = await self._answer(task, request)
        except TooLarge as error:
            answer = Answer(task=task, outcome="refused", error=error.to_error())
        if answer.error is not None:
            await self._driver.bury(dead_letters.REFUSED_SIGNAL, task, answer.error, delivery)
        if is_inbox(request.reply):
            await self._driver.bus.send(request.reply, msgspec.json.encode(answer))
        log.info("signal", task=task, kind=request.kind, outcome=answer.outcome)
        return Ack()

    async def _answer(self, task: str, request: TaskSignal) -> Answer:
        if len(request.id) > MAX_SIGNAL_ID:
            error = Error(code=codes.INVALID_INPUT, message=f"`$.id` must be at most {MAX_SIGNAL_ID} characters long")
            return Answer(task=task, outcome="refused", error=error)
        if request.kind == signal.CANCEL:
            return await self._driver.drive(rules.cancel(self._router, task, request))
        error = Error(
            code=codes.INVALID_INPUT,
            message=f"'{request.kind[:64]}' is no kind of task signal",
            hint="this version knows `cancel`",
        )
        return Answer(task=task, outcome="refused", error=error)

    async def _opening(self, agent: str, read: Admission | Refusal, delivery: Delivery) -> TaskAccepted | TaskRejected:
        if isinstance(read, Refusal):
            return _rejected(agent, read.error, read.digest, delivery)
        pool = self._registry.pool_of(agent) or await self._registry.wait_for(
            agent, self._settings.unknown_agent_grace_s
        )
        if pool is None:
            return _rejected(agent, self._registry.unknown(agent), read.digest, delivery, read.submit.owner)
        submit: Submit = read.submit
        return TaskAccepted(
            agent=agent, pool=pool, digest=read.digest, sequence=delivery.seq, at=rfc3339(delivery.at),
            input=None if submit.input is UNSET else submit.input, input_ref=submit.input_ref,
            context_id=submit.context_id, owner=submit.owner, deadline_s=submit.deadline_s, metadata=submit.metadata,
            unknown=read.unknown,
        )  # fmt: skip


def _expired(keep_s: float) -> Error:
    return Error(
        code=codes.DUPLICATE_ID,
        message=f"this submit is as old as logs are kept ({keep_s:g} s): its task may have run and been purged",
        hint="submit it again if it should run",
    )


def _task_id(read: Admission | Refusal) -> str | None:
    return read.submit.task_id if isinstance(read, Admission) else read.task_id


def _rejected(
    agent: str, error: Error, digest: str, delivery: Delivery, owner: str = command.DEFAULT_OWNER
) -> TaskRejected:
    return TaskRejected(error=error, digest=digest, sequence=delivery.seq, agent=agent, owner=owner)
