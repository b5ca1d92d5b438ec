"""One app in two versions that are served side by side; the new one has an agent and a tool more.

A process that is told to leave is gone after `LEFT_S` at the latest, whether it has handed back what it held or not.
"""

from __future__ import annotations

import asyncio
from typing import Any

from mesh import Context, Mesh

LEFT_S = 4.0


def _app(version: str) -> Mesh:
    app = Mesh("deploy", version=version)

    @app.tool(idempotent=True)
    async def price(sku: str) -> int:
        await asyncio.sleep(LEFT_S)
        return len(sku)

    @app.tool
    async def charge(amount: int) -> str:
        await asyncio.sleep(0.01)
        return f"receipt {amount}"

    @app.agent
    async def order(ctx: Context, count: int) -> dict[str, Any]:
        total = 0
        for number in range(count):
            total += await ctx.step("add", lambda number=number: number)
            await asyncio.sleep(LEFT_S / count)
        return {"total": total, "price": await ctx.tool(price, "otters"), "receipt": await ctx.tool(charge, total)}

    @app.agent
    async def recall(ctx: Context, text: str) -> int:
        return len(await ctx.history())

    return app


old, new = _app("1"), _app("2")


@new.tool
async def credit(amount: int) -> str:
    return f"credit {amount}"


@new.agent
async def refund(ctx: Context, amount: int) -> str:
    answer: str = await ctx.tool(credit, amount)
    return answer
