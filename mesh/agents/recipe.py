"""How a log holds the prompts of model steps: what each step adds, and how to put the whole together again.

A prompt is never recorded as a whole, so that a long conversation grows by its answers alone. Its digest is: a handler
that is called again must ask the same, and whoever puts a prompt together knows that it is the one that was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from mesh.errors import ArtifactDamaged, InvalidInput, Nondeterministic
from mesh.log import large
from mesh.log.journal import Journal
from mesh.log.large import Objects
from mesh.models.api import ModelRequest
from schemas.message import Message, Part, Recipe, user_message
from schemas.object import digest_of
from schemas.step import StepCompleted, StepRequested

if TYPE_CHECKING:
    from mesh.agents.history import Past

MAX_LINKS: Final = 10_000
_sorted: Final = msgspec.json.Encoder(order="deterministic")
_request: Final = msgspec.json.Decoder(ModelRequest)


class Asked(Struct, frozen=True):
    """A prompt as the log will hold it; `end` stands for its messages, in their order."""

    recipe: Recipe
    end: bytes


class _Link(NamedTuple):
    message: Message
    before: bytes
    end: bytes


class Conversations:
    """What the model steps of a task have asked and heard, so that a step records only what it adds to one of them."""

    def __init__(self, input: Any) -> None:
        # Text alone: another input may have been converted to the handler's annotation.
        self._opening = user_message(input) if isinstance(input, str) else None
        self._steps: dict[bytes, str] = {}
        self._links: dict[int, _Link] = {}

    def asked(self, request: ModelRequest) -> Asked:
        """The recipe of a request."""
        messages = request.messages
        ends = [b""]
        for message in messages:
            ends.append(self._link(ends[-1], message))
        if len(self._links) > MAX_LINKS + len(messages):  # of messages that a handler makes anew at each step
            self._links = {id(one): self._links[id(one)] for one in messages}
        known = next((n for n in range(len(messages), 0, -1) if ends[n] in self._steps), 0)
        opens = self._opening is not None and messages[known : known + 1] == (self._opening,)
        definition = digest_of(definition_of(request))
        recipe = Recipe(
            model=request.model, definition=definition, prompt=_digest(definition, ends[-1]), messages=len(messages),
            after=self._steps.get(ends[known], ""), input=opens,
            added=tuple(_recorded(message) for message in messages[known + opens :]),
        )  # fmt: skip
        return Asked(recipe, ends[-1])

    def remembered(self, step: str, messages: Sequence[Message]) -> None:
        """A step has told what was said before the task; a prompt may begin with that."""
        end = b""
        for message in messages:
            end = self._link(end, message)
        if messages:
            self._steps.setdefault(end, step)

    def answered(self, step: str, asked: Asked, answer: Message) -> None:
        """A step has its answer; a later prompt may go on from it."""
        self._steps.setdefault(self._link(asked.end, answer), step)

    def _link(self, before: bytes, message: Message) -> bytes:
        """As the function; a message that stands where it stood at the step before is not hashed again."""
        known = self._links.get(id(message))
        if known is None or known.message is not message or known.before != before:
            known = self._links[id(message)] = _Link(message, before, _link(before, message))
        return known.end


def check_same(recorded: StepRequested, now: Recipe) -> None:
    """Raises Nondeterministic if a recorded step is asked for with another prompt; it says what differs."""
    then = _recipe_of(recorded)
    if then.definition != now.definition:
        what = f"another definition (model, instructions, tools, output, settings): {now.definition}"
        what += f", and the log has {then.definition}"
    elif then.prompt != now.prompt:
        what = f"other messages: {now.messages} that do not equal the {then.messages} of its log"
    else:
        return
    raise Nondeterministic(
        f"step '{recorded.step}' asks its model with {what}",
        hint="its code changed while the task was under way: serve the version that began it, or one that fits",
    )


async def prompt_of(journal: Journal, step: str, objects: Objects, past: Past | None = None) -> ModelRequest:
    """The request of a model step exactly as it was made, from its task's log and the object store alone.

    One that began with what was said before the task needs its `past`, too.

    Raises: InvalidInput if the log holds no such model step, ArtifactMissing, ArtifactDamaged if what comes out is not
    what was sent.
    """
    steps = [step]
    recipes = [await _find(journal, step, objects)]
    while recipes[-1].after and not _is_history(journal, recipes[-1].after):
        steps.append(recipes[-1].after)
        recipes.append(await _find(journal, steps[-1], objects))
    messages: list[Message] = []
    if before := recipes[-1].after:
        if past is None:
            raise InvalidInput(f"the prompt of step '{step}' begins with what was said before its task")
        messages += await past.messages(await _output(journal, before, objects))
    for name, recipe in zip(reversed(steps), reversed(recipes), strict=True):
        if recipe.input and journal.accepted is not None:
            messages.append(user_message((await large.restore(journal.accepted, objects)).input))
        messages += [await _whole(journal, message, objects) for message in recipe.added]
        if name != step:
            messages.append(msgspec.convert(await _output(journal, name, objects), Message))
    definition = _request.decode(await objects.read(recipes[0].definition))
    end = b""
    for message in messages:
        end = _link(end, message)
    if _digest(recipes[0].definition, end) != recipes[0].prompt:
        raise ArtifactDamaged(f"the prompt of step '{step}' cannot be put together again: its digest differs")
    return replace(definition, messages=tuple(messages))


def definition_of(request: ModelRequest) -> bytes:
    """What stays the same over a conversation: everything but its messages."""
    plain = msgspec.to_builtins(replace(request, messages=()))
    return _sorted.encode({name: value for name, value in plain.items() if value != {}})


def _is_history(journal: Journal, step: str) -> bool:
    requested = journal.requested.get(step)
    return requested is not None and requested.kind == "code"


async def _find(journal: Journal, step: str, objects: Objects) -> Recipe:
    requested = journal.requested.get(step)
    if requested is None or requested.kind != "model":
        there = [key for key, one in journal.requested.items() if one.kind == "model"]
        raise InvalidInput(f"the log holds no model step '{step}'", hint=f"it has: {', '.join(there) or 'none'}")
    return _recipe_of(await large.restore(requested, objects))


def _recipe_of(requested: StepRequested) -> Recipe:
    try:
        return msgspec.convert(requested.input, Recipe)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the prompt of step '{requested.step}' cannot be read: {error}") from error


async def _output(journal: Journal, step: str, objects: Objects) -> Any:
    result = journal.results.get(step)
    if not isinstance(result, StepCompleted):
        raise InvalidInput(f"a prompt goes on from step '{step}', whose result the log does not hold")
    return (await large.restore(result, objects)).output


def _recorded(message: Message) -> Message:
    """The message without what the log holds elsewhere."""
    if not any(part.step for part in message.parts):
        return message
    return replace(message, parts=tuple(replace(part, content=None) if part.step else part for part in message.parts))


async def _whole(journal: Journal, message: Message, objects: Objects) -> Message:
    async def filled(part: Part) -> Part:
        return replace(part, content=await _output(journal, part.step, objects)) if part.step else part

    return replace(message, parts=tuple([await filled(part) for part in message.parts]))


def _link(before: bytes, message: Message) -> bytes:
    return sha256(before + _sorted.encode(message)).digest()


def _digest(definition: str, end: bytes) -> str:
    return digest_of(definition.encode() + end)


__all__ = ["Asked", "Conversations", "check_same", "definition_of", "prompt_of"]
