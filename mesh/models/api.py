"""What is asked of a model and what comes back while it answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final, Literal, Protocol

import msgspec
from msgspec import Struct

from schemas.delta import DeltaKind
from schemas.message import Message

OutputMode = Literal["auto", "native", "tool", "prompted"]
OUTPUT_TOOL: Final = "final_answer"


class ToolSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tool as a model sees it; `schema` is JSON Schema with an object at its root."""

    name: str
    description: str = ""
    schema: dict[str, Any]


class OutputSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A structured answer that is asked for; made by `output_spec`.

    `mode` says how it is asked for: in the provider's own way, as a call of a tool named `name`, or in the prompt;
    `auto` takes what the model does best. `wrapped` means that the value is no object and stands under the key `value`.
    """

    schema: dict[str, Any]
    name: str = OUTPUT_TOOL
    description: str = ""
    mode: OutputMode = "auto"
    wrapped: bool = False


class Endpoint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an agent reaches its model, where that is not the provider's default.

    `base_url` is that of a compatible server; it gets the key in `key_variable`, or none: a key of the provider itself
    never goes there. Clear `needs_finish_reason` for a server that ends its streams without one; then a cut stream is
    taken for a whole answer. Clear `priced` where the provider's price list does not hold.
    """

    base_url: str = ""
    key_variable: str = ""
    needs_finish_reason: bool = True
    priced: bool = True


class ModelRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request; `model` is `provider:model`, `settings` what all providers share (`max_tokens`, `timeout` …)."""

    model: str
    instructions: str = ""
    messages: tuple[Message, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    output: OutputSpec | None = None
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    endpoint: Endpoint = Endpoint()


class ModelDelta(Struct, frozen=True, gc=False):
    """A piece of text on its way; `part` is the place of its part in the answer's message.

    A piece of tool arguments names the call and the tool; the first one of a call may be empty.
    """

    part: int
    kind: DeltaKind
    text: str
    call: str = ""
    tool: str = ""


class ModelRetry(Struct, frozen=True, gc=False):
    """The request failed and is made again after a wait, as this attempt; text so far is void."""

    attempt: int
    reason: str
    wait_s: float


class ModelAnswer(Struct, frozen=True):
    """The whole answer, always the last event of a stream; its usage and cost are the message's."""

    message: Message


ModelEvent = ModelDelta | ModelRetry | ModelAnswer


class Model(Protocol):
    """Anything that answers model requests."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Answers piece by piece; the text of a part's deltas joined is that part's text.

        Read it inside `contextlib.aclosing`, so that whoever stops early stops the provider too.

        *Cancellation:* cancelling the reader closes the connection to the provider at once.

        Raises: ModelNotConfigured, ModelUnavailable (may be retried), ModelRejected.
        """
        ...
