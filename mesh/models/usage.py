"""Usage of several model calls, summed."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from schemas.task import Money, Usage


def total_usage(usages: Iterable[Usage | None]) -> Usage:
    """The sum; None is a call whose usage is unknown.

    The cost is unknown as soon as that of one call is: a sum of what happens to be known would be read as the whole.
    """
    total, costs = Usage(), list[Money | None]()
    for usage in usages:
        known = usage or Usage(requests=1)
        total = Usage(
            input_tokens=total.input_tokens + known.input_tokens,
            output_tokens=total.output_tokens + known.output_tokens,
            cache_read_tokens=total.cache_read_tokens + known.cache_read_tokens,
            cache_write_tokens=total.cache_write_tokens + known.cache_write_tokens,
            reasoning_tokens=total.reasoning_tokens + known.reasoning_tokens,
            requests=total.requests + known.requests,
            cost=total_cost([*costs, known.cost]),
        )
        costs = [total.cost]
    return total


def total_cost(costs: Iterable[Money | None]) -> Money | None:
    """The sum in one currency; None if one is unknown or the currencies differ."""
    amount, currency = Decimal(0), ""
    for cost in costs:
        if cost is None or currency not in ("", cost.currency):
            return None
        amount, currency = amount + Decimal(cost.amount), cost.currency
    return Money(amount=f"{amount:f}", currency=currency) if currency else None
