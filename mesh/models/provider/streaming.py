"""One streamed request."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator

from msgspec import Struct, structs
from pydantic_ai import messages as theirs
from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import AgentRunError, UserError
from pydantic_ai.models import Model

from mesh.errors import ModelUnavailable
from mesh.models.api import ModelAnswer, ModelDelta, ModelEvent, ModelRequest
from mesh.models.provider.asking import parameters_of, settings_of
from mesh.models.provider.characters import Characters, readable
from mesh.models.provider.conversion import Origin, arguments_of, to_ours, to_theirs
from mesh.models.provider.faults import translated
from schemas.delta import DeltaKind
from schemas.message import REASONING, TEXT, Message, Part


class Target(Struct, frozen=True):
    """A model that can be asked; `key` says where its key comes from."""

    model: Model
    origin: Origin
    key: str


async def stream_answer(target: Target, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
    """Asks and yields; raises ModelUnavailable or ModelRejected."""
    model, endpoint = target.model, request.endpoint
    messages = to_theirs(request.messages, request.instructions, model, target.origin)
    settings, parameters = settings_of(request), parameters_of(request, model)
    pieces = Pieces()
    try:
        async with model_request_stream(
            model, messages, model_settings=settings, model_request_parameters=parameters, instrument=False
        ) as stream:
            async for event in stream:
                for delta in pieces.deltas(event):
                    yield delta
            response = stream.get()
    except (AgentRunError, UserError) as error:
        raise translated(error, request.model, target.key) from error
    except Exception as error:  # what a malformed answer sets off in an SDK is not for our callers to know
        problem = f"{request.model}: the answer cannot be read: {type(error).__name__}: {error}"
        raise ModelUnavailable(problem) from error
    _check_whole(response, request.model, needs_reason=endpoint.needs_finish_reason)
    message, rest = pieces.reconciled(readable(to_ours(response, target.origin, priced=endpoint.priced)))
    for delta in rest:
        yield delta
    yield ModelAnswer(message)


class Pieces:
    """The pieces of an answer, and what they add up to."""

    def __init__(self) -> None:
        self._texts: dict[int, list[str]] = {}
        self._characters: dict[int, Characters] = {}
        self._calls: dict[int, tuple[str, str]] = {}

    def deltas(self, event: theirs.ModelResponseStreamEvent) -> Iterator[ModelDelta]:
        """What an event adds: the start of a part holds its first piece already."""
        match event:
            case theirs.PartStartEvent(index=place, part=theirs.ToolCallPart() as part):
                if place not in self._calls:
                    self._calls[place] = (part.tool_call_id, part.tool_name)
                    yield self._arguments(place, arguments_of(part) if part.args else "")
            case theirs.PartStartEvent(index=place, part=theirs.TextPart() | theirs.ThinkingPart() as part):
                # A part that starts again stands for the whole: only what it adds is new.
                known = self._streamed(place)
                if part.content.startswith(known):
                    yield from self._text(place, part, part.content[len(known) :])
            case theirs.PartDeltaEvent(index=place, delta=theirs.ToolCallPartDelta(args_delta=str() as text)):
                if text and place in self._calls:
                    yield self._arguments(place, text)
            case theirs.PartDeltaEvent(index=place, delta=theirs.TextPartDelta() | theirs.ThinkingPartDelta() as delta):
                yield from self._text(place, delta, delta.content_delta or "")

    def reconciled(self, message: Message) -> tuple[Message, list[ModelDelta]]:
        """The message whose texts are those that were streamed, and what of them was not streamed yet.

        A reader who joined the pieces must have what the log has, so where the two differ the pieces win.
        """
        parts: list[Part] = []
        rest: list[ModelDelta] = []
        for place, part in enumerate(message.parts):
            streamed = self._streamed(place)
            if part.kind not in (TEXT, REASONING) or part.text == streamed:
                parts.append(part)
            elif part.text.startswith(streamed):
                parts.append(part)
                kind: DeltaKind = "text" if part.kind == TEXT else "reasoning"
                rest.append(ModelDelta(place, kind, part.text[len(streamed) :]))
            else:
                parts.append(structs.replace(part, text=streamed))
        return structs.replace(message, parts=tuple(parts)), rest

    def _arguments(self, place: int, text: str) -> ModelDelta:
        call, tool = self._calls[place]
        return ModelDelta(place, "tool_arguments", self._whole(place, text), call, tool)

    def _text(self, place: int, part: object, text: str) -> Iterator[ModelDelta]:
        text = self._whole(place, text)
        if text:
            self._texts.setdefault(place, []).append(text)
            is_text = isinstance(part, theirs.TextPart | theirs.TextPartDelta)
            yield ModelDelta(place, "text" if is_text else "reasoning", text)

    def _whole(self, place: int, text: str) -> str:
        return self._characters.setdefault(place, Characters()).whole(text)

    def _streamed(self, place: int) -> str:
        return "".join(self._texts.get(place, ()))


def _check_whole(response: theirs.ModelResponse, model: str, *, needs_reason: bool) -> None:
    """Raises ModelUnavailable for an answer that broke off, however orderly its stream was closed.

    A proxy that runs out of time closes the body properly; only the provider's own reason for the end tells that it is
    one. (The normalised reason says `stop` in that case.)
    """
    told = (response.provider_details or {}).get("finish_reason")
    if response.finish_reason == "error":
        raise ModelUnavailable(f"{model}: the provider broke the answer off with an error")
    if response.state != "complete" or (needs_reason and not told):
        raise ModelUnavailable(f"{model}: the answer was cut: its stream ended without a reason")
