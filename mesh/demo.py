"""The app that is served when none is named: agents that need no model, no key and no network.

The assistant asks the model that `MESH_MODEL` names; without it, a scripted one that says so.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, date, datetime
from typing import Any, Final

from mesh.agents.app import Mesh
from mesh.agents.context import Context
from mesh.models.api import ModelRequest
from mesh.models.scripted import Call, Reply
from schemas.message import TOOL, USER

PAUSE_S = 0.02
app = Mesh("demo", version="1")


@app.agent
async def hello(ctx: Context, text: str) -> str:
    """Answers any text, streamed word by word."""
    await ctx.emit_progress("reading your text", 0.1)
    letters = await ctx.step("count", count_letters, text)
    answer = (
        f"Hello! You sent {len(text)} characters, {letters} of them letters. "
        "I am the demo agent: I run offline, without a model and without a key. "
        "I counted in a step, whose result is in the log of this task and is not computed again, "
        "even if my worker is killed; and I stream this answer word by word. "
        "Write an agent of your own with: mesh init"
    )
    words = answer.split(" ")
    for number, word in enumerate(words):
        await ctx.emit_text(word if number == 0 else f" {word}")
        await asyncio.sleep(PAUSE_S)
    await ctx.write_artifact("answer.txt", answer + "\n")
    return answer


@app.agent
async def countdown(ctx: Context, seconds: int) -> str:
    """Counts down, one second per step; made to be canceled and killed."""
    for left in range(seconds, 0, -1):
        await ctx.emit_progress(f"{left} s to go", 1 - left / seconds)
        await ctx.emit_text(f"{left}… ")
        await ctx.step("second", asyncio.sleep, 1)
    await ctx.emit_text("done")
    return "done"


def count_letters(text: str) -> int:
    """How many letters a text has."""
    return sum(character.isalpha() for character in text)


@app.tool(idempotent=True, timeout_s=5)
def count_words(text: str) -> int:
    """How many words a text has."""
    return len(text.split())


@app.tool(idempotent=True, timeout_s=5)
def today() -> str:
    """The date of today, in UTC, as YYYY-MM-DD."""
    return datetime.now(UTC).date().isoformat()


@app.tool(idempotent=True, timeout_s=5)
def days_between(first: date, last: date) -> int:
    """How many days lie between two dates."""
    return (last - first).days


DAYS: Final = {"christmas": (12, 25), "new year": (1, 1), "valentine": (2, 14), "halloween": (10, 31)}
SCRIPTED: Final = (
    "I am a scripted model: I run offline and follow a script. "
    "Set MESH_MODEL=openai:gpt-5-mini (and OPENAI_API_KEY) to have a real one answer here."
)


def scripted_assistant(request: ModelRequest) -> Reply:
    """What the assistant says where no model is named; it asks its tools, as a model would."""
    question = [message.text for message in request.messages if message.role == USER][-1]
    results = [part for message in request.messages if message.role == TOOL for part in message.parts]
    failed = [part for part in results if part.failed]
    if failed:
        return Reply(text=f"The tool {failed[0].tool} did not work: {failed[0].content} {SCRIPTED}", pause_s=PAUSE_S)
    days = [name for name in DAYS if name in question.lower()]
    found = {part.tool: part.content for part in results}
    if not days:
        return _count(question, found)
    if "today" not in found:
        return Reply(text="Let me look at the calendar. ", calls=(Call("today"),), pause_s=PAUSE_S)
    first = date.fromisoformat(found["today"])
    dates = {name: _next(first, *DAYS[name]) for name in days}
    if "days_between" not in found:
        calls = tuple(Call("days_between", {"first": first, "last": last}) for last in dates.values())
        return Reply(calls=calls, pause_s=PAUSE_S)
    counts = [part.content for part in results if part.tool == "days_between"]
    told = [f"{count} days until {name.title()}, {dates[name]}" for name, count in zip(days, counts, strict=False)]
    return Reply(text=f"{'; '.join(told)}. {SCRIPTED}", pause_s=PAUSE_S)


def _count(question: str, found: dict[str, Any]) -> Reply:
    if not found:
        calls = (Call("count_words", {"text": question}), Call("today"))
        return Reply(text="Let me look. ", calls=calls, pause_s=PAUSE_S)
    told = f"You sent {found.get('count_words')} words on {found.get('today')}; two tools told me so, side by side."
    return Reply(text=f"{told} {SCRIPTED}", pause_s=PAUSE_S)


def _next(today: date, month: int, day: int) -> date:
    this_year = today.replace(month=month, day=day)
    return this_year if this_year >= today else this_year.replace(year=today.year + 1)


assistant = app.model_agent(
    "assistant",
    model=os.environ.get("MESH_MODEL") or app.scripted_model("assistant", scripted_assistant),
    instructions="You are a short-spoken assistant. Use your tools for words and dates instead of guessing.",
    tools=[count_words, today, days_between],
    description="Answers with a model and three tools; scripted unless MESH_MODEL names a model.",
)
