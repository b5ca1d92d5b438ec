"""An agent whose turn makes two tool calls side by side: one may be repeated, one must not be."""

from __future__ import annotations

import asyncio
from typing import Any

from mesh import Context, Mesh, OutcomeUnknown
from mesh.testing import note_effect

app = Mesh("tools", version="1")


@app.tool(idempotent=True)
async def price(sku: str) -> int:
    note_effect("price")
    return len(sku)


@app.tool
def charge(amount: int) -> str:
    note_effect("charge")
    return f"receipt {amount}"


@app.agent
async def turn(ctx: Context, amount: int) -> dict[str, Any]:
    """Two calls at once, then a step."""

    async def pay() -> str:
        try:
            return await ctx.tool(charge, amount)
        except OutcomeUnknown:
            return "ask the bank"

    cost, receipt = await asyncio.gather(ctx.tool(price, "otters"), pay())
    return {"cost": await ctx.step("double", lambda: 2 * cost), "receipt": receipt}
