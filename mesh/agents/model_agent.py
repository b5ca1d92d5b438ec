"""A model agent: asks its model, makes the tool calls it wants, and goes on until it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, TypedDict

import msgspec
from msgspec import Struct

from mesh.agents.history import MAX_TASKS, in_words
from mesh.agents.model_step import MAX_CORRECTIONS, Reply
from mesh.agents.recipe import definition_of
from mesh.agents.tools import Tool
from mesh.errors import InvalidInput, LimitExceeded, OutcomeUnknown, StepFailed, TooLarge
from mesh.models.api import Endpoint, ModelRequest
from mesh.models.output import output_spec
from mesh.models.usage import total_usage
from schemas.message import Part, tool_message, tool_result, user_message
from schemas.task import Usage

if TYPE_CHECKING:
    from mesh.agents.context import Context

MAX_CALL_CHARS: Final = 40


class Limits(TypedDict, total=False):
    """What bounds a model agent, and what its model is asked with; see `ModelAgent`."""

    max_steps: int
    max_tool_calls: int
    max_tokens: int | None
    max_history: int
    settings: dict[str, Any] | None
    endpoint: Endpoint
    description: str


class ModelAgent(Struct, frozen=True, kw_only=True):
    """A model with instructions and tools; calling it with a context and an input is its handler.

    `max_steps` counts answers of the model, `max_tool_calls` the calls it asked for, `max_tokens` what the task used in
    all; past them the task fails with `limit_exceeded`. `max_history` counts the tasks of the same conversation whose
    messages the model sees before the input. `settings` are those of the model layer.
    """

    model: str
    instructions: str = ""
    tools: tuple[Tool[Any, Any], ...] = ()
    output_type: Any = None
    max_steps: int = 16
    max_tool_calls: int = 50
    max_tokens: int | None = None
    max_history: int = MAX_TASKS
    settings: dict[str, Any] | None = None
    endpoint: Endpoint = Endpoint()
    description: str = ""

    def definition(self) -> bytes:
        """What the model is asked with, whatever the conversation."""
        output = None if self.output_type is None else output_spec(self.output_type)
        request = ModelRequest(
            model=self.model, instructions=self.instructions, tools=tuple(tool.spec() for tool in self.tools),
            output=output, settings=self.settings or {}, endpoint=self.endpoint,
        )  # fmt: skip
        return definition_of(request)

    async def answer(self, ctx: Context, input: Any) -> Any:
        """The conversation from the input to the answer; raises LimitExceeded, StepFailed, OutputInvalid."""
        messages = [*await ctx.history(max_tasks=self.max_history), user_message(in_words(input))]
        tools = {tool.name: tool for tool in self.tools}
        usage: Usage | None = None
        steps = calls = 0
        while True:
            reply = await ctx.model(
                self.model, messages, instructions=self.instructions, tools=self.tools, output_type=self.output_type,
                settings=self.settings, endpoint=self.endpoint, max_tokens=self._tokens_left(usage),
                max_corrections=min(MAX_CORRECTIONS, self.max_steps - steps - 1),
            )  # fmt: skip
            messages += reply.messages
            usage = total_usage([reply.usage] if usage is None else [usage, reply.usage])
            steps += len(reply.messages) // 2 + 1
            if not reply.calls:
                return self._whole(reply)
            self._check(steps, calls, usage)
            allowed = self.max_tool_calls - calls
            calls += len(reply.calls)
            messages.append(tool_message(*await _make(ctx, reply, tools, allowed)))

    def _whole(self, reply: Reply) -> Any:
        if reply.message.finish_reason == "length" and self.output_type is None:
            raise LimitExceeded(
                "the model's answer was cut off at its limit of tokens", hint="raise max_tokens in the agent's settings"
            )
        return reply.output

    def _check(self, steps: int, calls: int, usage: Usage) -> None:
        """Whether the model may go on; it has not answered yet."""
        if steps >= self.max_steps:
            raise LimitExceeded(f"no answer after {steps} model steps", hint="raise max_steps, or look at its calls")
        if calls >= self.max_tool_calls:
            raise LimitExceeded(f"no answer after {calls} tool calls", hint="raise max_tool_calls")
        left = self._tokens_left(usage)
        if left is not None and left <= 0:
            tokens = usage.input_tokens + usage.output_tokens
            raise LimitExceeded(f"no answer after {tokens} tokens", hint="raise max_tokens")

    def _tokens_left(self, usage: Usage | None) -> int | None:
        spent = usage.input_tokens + usage.output_tokens if usage else 0
        return None if self.max_tokens is None else self.max_tokens - spent


async def _make(ctx: Context, reply: Reply, tools: Mapping[str, Tool[Any, Any]], allowed: int) -> list[Part]:
    """The results of all calls of an answer, made side by side; those past the limit are not made."""
    made = await asyncio.gather(
        *(_call(ctx, reply.step, call, tools) for call in reply.calls[:allowed]), return_exceptions=True
    )
    results = []
    for one in made:
        if isinstance(one, BaseException):
            raise one
        results.append(one)
    late = f"This call was not made: no more than {allowed} are allowed now."
    return results + [tool_result(call, late, failed=True) for call in reply.calls[allowed:]]


async def _call(ctx: Context, step: str, call: Part, tools: Mapping[str, Tool[Any, Any]]) -> Part:
    """One call's result for the model; raises OutcomeUnknown where the tool's policy is to fail."""
    tool = tools.get(call.tool)
    if tool is None:
        there = ", ".join(sorted(tools)) or "none"
        return tool_result(call, f"There is no tool {call.tool!r}; the tools are: {there}.", failed=True)
    try:
        arguments = tool.check(msgspec.json.decode(call.arguments or "{}"))
    except (msgspec.DecodeError, RecursionError) as error:
        return tool_result(call, f"The arguments are no JSON: {error}.", failed=True)
    except (InvalidInput, TooLarge) as error:
        return tool_result(call, f"The arguments do not fit: {error}.", failed=True)
    try:
        key, value = await ctx.branch(f"{step}/{_short(call.call)}").make_call(tool, arguments)
    except OutcomeUnknown as error:
        if tool.policy.on_unknown == "fail":
            raise
        return tool_result(call, f"Nobody knows whether this call took effect: {error}.", failed=True)
    except StepFailed as error:
        return tool_result(call, str(error), failed=True)
    return tool_result(call, value, step=key)


def _short(call: str) -> str:
    """A provider's call id as a part of a step's key."""
    return call if 0 < len(call) <= MAX_CALL_CHARS and call.isprintable() else sha256(call.encode()).hexdigest()[:16]
