"""What a request used and cost."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from pydantic_ai.messages import ModelResponse

from schemas.task import Money, Usage


def usage_of(response: ModelResponse, cost: Money | None) -> Usage | None:
    """Tokens and cost of one request; None if the provider told nothing, which is not zero."""
    usage = response.usage
    if usage.unmeasured_requests:
        return None
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.output_reasoning_tokens,
        requests=1,
        cost=cost,
    )


def cost_of(response: ModelResponse) -> tuple[Money | None, str]:
    """The cost by the packaged price list and that list's name; None for a model it does not know."""
    if response.usage.unmeasured_requests or not response.model_name:
        return None, ""
    try:
        price = response.cost()
    except (LookupError, ValueError):
        return None, ""
    return Money(amount=f"{price.total_price:f}"), _price_list()


@cache
def _price_list() -> str:
    return f"genai-prices {version('genai-prices')}"
