"""The numbers of one exploration: roles, messages, processes, facts, and what is derived from each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tests.model.parts import At, Effect, Tools
from tests.model.processes import Site, route
from tests.model.scenario import Scenario
from tests.model.tables import Delivered, Histories, Logs, Process, Sent, Table

ROUTED = frozenset({"submit", "signal", "fired", "reconcile", "cut"})


@dataclass(frozen=True)
class Role:
    """Alike processes: what they take, and how many of them there are."""

    name: str
    kinds: frozenset[str]
    limit: int
    version: int
    site: Site


def roles_of(scenario: Scenario) -> list[Role]:
    """Routers, executors, with a second app version one executor of that, and tool runners if there are tools."""
    site = Site(
        scenario.flows, scenario.program, "1", scenario.max_attempts, scenario.max_starts, scenario.waits,
        scenario.able, scenario.inbox,
    )  # fmt: skip
    run = frozenset({"run"})
    roles = [
        Role("router", ROUTED, scenario.routers, 1, site),
        Role("executor", run, scenario.executors, 1, site),
    ]
    if scenario.deploys:
        roles.append(Role("executor of version 2", run, 1, 2, replace(site, version="2")))
    if any(isinstance(part, Tools) for part in scenario.program):
        roles.append(Role("runner", frozenset({"call"}), scenario.runners, 1, site))
    return roles


class Registers:
    """Tables, and columns beside them for what is asked often; `calls_of` is the tool that a live runner is making."""

    def __init__(self, scenario: Scenario) -> None:
        self.roles = roles_of(scenario)
        self.tasks = list(dict.fromkeys(sent.task for sent in scenario.client))
        self.logs = Logs()
        self.histories = Histories(self.logs)
        self.contents: Table[Sent] = Table()
        self.messages: Table[Delivered] = Table()
        self.processes: Table[Process] = Table()
        self.facts: Table[str] = Table()
        self.task_of: list[int] = []
        self.message_of: list[int] = []
        self.is_late: list[bool] = []
        self.late_of: list[int] = []
        self.delivered_of: list[int] = []
        self.op_of: list[Any] = []
        self.calls_of: list[str] = []
        self._ops: dict[tuple[int, int, int], Any] = {}
        self._roles: dict[int, list[int]] = {}

    def sent(self, message: int) -> Sent:
        return self.contents.values[self.messages.values[message].content]

    def kind(self, message: int) -> str:
        return self.sent(message).kind

    def seq(self, message: int) -> int:
        """The stream sequence of a message; 0 is nobody's."""
        return message + 1

    def name(self, message: int) -> str:
        copy = self.messages.values[message].copy
        return f"{self.sent(message)} #{self.seq(message)}" + f" copy {copy}" * bool(copy)

    def task_of_content(self, content: int) -> int:
        return self.tasks.index(self.contents.values[content].task)

    def roles_of(self, message: int) -> list[int]:
        roles = self._roles.get(message)
        if roles is None:
            kind = self.kind(message)
            roles = self._roles[message] = [i for i, role in enumerate(self.roles) if kind in role.kinds]
        return roles

    def process(self, process: Process) -> int:
        """The number of a process; its next operation is known from then on."""
        number = self.processes(process)
        if number == len(self.op_of):
            op = self.op(process)
            self.op_of.append(op)
            self.calls_of.append(op.tool.key if isinstance(op, Effect) and not process.late else "")
            self.message_of.append(process.message)
            self.is_late.append(process.late)
            self.delivered_of.append(self.histories.delivered(process.history))
            self.task_of.append(self.tasks.index(self.sent(process.message).task))
            self.late_of.append(number)
            if not process.late:
                self.late_of[number] = self.process(process._replace(late=True))
        return number

    def op(self, process: Process) -> Any:
        """What a process asks for next; the same whether or not it is late."""
        key = (process.role, process.message, process.history)
        op = self._ops.get(key)
        if op is None:
            sent, role = self.sent(process.message), self.roles[process.role]
            begin = {"router": route, "runner": role.site.flows.make}.get(role.name, role.site.flows.execute)

            def start(version: str, delivered: int) -> Any:
                site = replace(role.site, version=version) if begin is route else role.site
                return begin(site, sent.task, sent.body, At(self.seq(process.message), delivered))

            op = self._ops[key] = self.histories.replay(process.history, start)
        return op

    def fact(self, name: str) -> int:
        """The bit of a fact."""
        return 1 << self.facts(name)

    def fact_names(self, facts: int) -> list[str]:
        return [name for i, name in enumerate(self.facts.values) if facts >> i & 1]
