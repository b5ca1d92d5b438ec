"""What a question costs depends on its page, not on what the view holds. Steps of SQLite are counted, not time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from schemas.session import ContextsRequest, GetRequest, HistoryRequest, TasksRequest
from schemas.task import MessageReceived, TaskCompleted
from services.session_store import contexts, queries, retention
from services.session_store.database import Database
from services.session_store.pages import token
from tests.session_store.made import Made, at

FEW: Final = 150
MANY: Final = 1_500
STEPS: Final = 50
Question = Callable[[Connection, Made], object]

QUESTIONS: dict[str, Question] = {
    "get": lambda on, made: queries.get(on, GetRequest(v=1, id="t7")),
    "tasks": lambda on, made: queries.tasks_like(on, TasksRequest(v=1)),
    "tasks of a context": lambda on, made: queries.tasks_like(on, TasksRequest(v=1, context_id="talk")),
    "tasks of an owner and a state, none": lambda on, made: queries.tasks_like(
        on, TasksRequest(v=1, owner="acme/ann", state="canceled")
    ),
    "tasks of a context and an agent, few": lambda on, made: queries.tasks_like(
        on, TasksRequest(v=1, context_id="talk", agent="rare", owner="acme/ann", limit=5), look=FEW
    ),
    "newest tasks": lambda on, made: queries.tasks_like(on, TasksRequest(v=1, since=at(made.sequence - 9)), look=FEW),
    "history": lambda on, made: queries.history(on, HistoryRequest(v=1, context_id="talk")),
    "history of an owner": lambda on, made: queries.history(
        on, HistoryRequest(v=1, context_id="talk", owner="acme/ann")
    ),
    "history, later page": lambda on, made: queries.history(
        on, HistoryRequest(v=1, context_id="talk", page_token=token(["talk", None], [made.sequence // 2, 0, 0]))
    ),
    "history of a task with many messages": lambda on, made: queries.history(
        on, HistoryRequest(v=1, context_id="long", page_token=token(["long", None], [1, 60, 0]))
    ),
    "conversations": lambda on, made: contexts.contexts(on, ContextsRequest(v=1)),
    "conversations of an owner": lambda on, made: contexts.contexts(on, ContextsRequest(v=1, owner="acme/3", limit=5)),
    "what belongs to a small one": lambda on, made: contexts.belongings(on, "c3", None),
    "what is due": lambda on, made: retention.due_for_purge(on, at(made.sequence), 20),
    "forgetting": lambda on, made: made.forgetting(on, [f"t{n}" for n in range(10)]),
}


async def filled(path: Path, count: int) -> Made:
    """One long task, one conversation of so many tasks, and half as many others with a few each."""
    made = Made(Database(f"sqlite:///{path}"))
    made.accepted("long", context="long")
    for n in range(count):
        made.add("long", MessageReceived(id="m", body=n))
    made.add("long", TaskCompleted(output=1))
    for n in range(count):
        made.ended(f"t{n}", context="talk", agent="a" if n % (count // 5) else "rare")
        if n % 2:
            made.ended(f"c{n}", context=f"c{n // 4}", owner=f"acme/{n % 7}")
    made.accepted("open", context="talk")
    await made.apply()
    return made


async def cost(made: Made, question: Question) -> int:
    """How many steps the database makes for it, by fifties."""

    def counted(connection: Connection) -> int:
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(step, STEPS)
        question(connection, made)
        driver.set_progress_handler(None, 0)
        connection.rollback()
        return steps

    return await made.database.read(counted)


async def test_ten_times_as_much_in_the_view_does_not_make_a_question_dearer(tmp_path: Path) -> None:
    few, many = await filled(tmp_path / "few.db", FEW), await filled(tmp_path / "many.db", MANY)
    try:
        costs = {name: (await cost(few, one), await cost(many, one)) for name, one in QUESTIONS.items()}
    finally:
        await few.database.aclose()
        await many.database.aclose()
    assert {name: pair for name, pair in costs.items() if pair[1] > 1.5 * pair[0] + 10} == {}
