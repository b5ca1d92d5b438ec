"""A mesh with a planted bug: its tool runners make a call before its start is committed."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from mesh import Context, Mesh
from mesh.log.ops import Append
from mesh.testing import note_effect
from services.tool_runner import rules

app = Mesh("hasty-tools", version="1")
_begin = rules.begin


def hasty(runner: rules.Runner, job: rules.Delivered, *, retry_of: int = 0, seen: int = 0) -> Generator[Any, Any, Any]:
    flow = _begin(runner, job, retry_of=retry_of, seen=seen)
    answer = None
    try:
        while True:
            op = flow.send(answer)
            if isinstance(op, Append):
                charge()
            answer = yield op
    except StopIteration as stop:
        return stop.value


rules.begin = hasty


@app.tool
def charge() -> str:
    note_effect("charge")
    return "receipt"


@app.agent
async def pays(ctx: Context, amount: int) -> str:
    return await ctx.tool(charge)
