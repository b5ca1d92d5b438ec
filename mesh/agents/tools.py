"""Tools: functions of an app that tool runners perform, and models may call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, Generic, Literal, ParamSpec, TypeVar, get_type_hints

import msgspec
from msgspec import Struct

from mesh.agents.values import schema_of
from mesh.errors import AppError, InvalidInput
from mesh.models.api import ToolSpec
from mesh.models.schema import flat_schema
from schemas.agent import ToolRecord
from schemas.ids import is_name

P = ParamSpec("P")
T = TypeVar("T")
OnUnknown = Literal["fail", "tell_model"]
NO_DEFAULT: Final = inspect.Parameter.empty


class ToolPolicy(Struct, frozen=True, kw_only=True):
    """How a tool may be made to run.

    `timeout_s` bounds one attempt; `max_attempts` counts attempts after failures the tool reported; a tool that is not
    `idempotent` is never repeated after its runner died; `max_concurrent` bounds calls at once in one runner.
    """

    idempotent: bool = False
    timeout_s: float = 60.0
    max_attempts: int = 1
    backoff_s: float = 0.5
    max_concurrent: int | None = None
    on_unknown: OnUnknown = "fail"


class Tool(Generic[P, T]):
    """A function under a name; calling it calls the function, as in a unit test."""

    def __init__(self, function: Callable[P, Any], *, name: str, policy: ToolPolicy) -> None:
        where = f"tool '{name}'"
        if not is_name(name):
            raise AppError(f"{where} has no valid name", hint="names are 1 to 63 of a-z 0-9 _ -; pass name=...")
        self.name = name
        self.function = function
        self.policy = policy
        self.description = (inspect.getdoc(function) or "").strip()
        try:
            hints = get_type_hints(function, include_extras=True)
        except NameError as error:
            raise AppError(f"{where} has an annotation that cannot be read: {error}") from error
        self.takes_context = ""
        self._arguments = _arguments(self, where, hints)
        self.output_type: Any = hints.get("return", Any)
        self._schema = schema_of(self._arguments, where) or {}
        schema_of(self.output_type, f"{where}, output")

    def __repr__(self) -> str:
        return f"<Tool {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = self.function(*args, **kwargs)
        return result

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments as a caller wrote them, by name and as plain JSON values; raises InvalidInput."""
        names = list(self._arguments.__struct_fields__)
        if len(args) > len(names):
            raise InvalidInput(f"tool '{self.name}' takes {len(names)} arguments, not {len(args)}")
        given = dict(zip(names, args, strict=False))
        twice = sorted(given.keys() & kwargs.keys())
        if twice:
            raise InvalidInput(f"tool '{self.name}' got `{twice[0]}` twice")
        return self.check({**given, **kwargs})

    def check(self, arguments: Any) -> dict[str, Any]:
        """Arguments by name, checked against the signature; raises InvalidInput with the field's path."""
        try:
            plain: dict[str, Any] = msgspec.to_builtins(arguments, str_keys=True)
            msgspec.convert(plain, self._arguments)
        except (msgspec.ValidationError, TypeError) as error:
            raise InvalidInput(f"tool '{self.name}': {error}") from error
        return plain

    def read(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Recorded arguments as the function's annotations want them; raises InvalidInput."""
        try:
            typed = msgspec.convert(arguments, self._arguments)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"tool '{self.name}': {error}") from error
        return {name: getattr(typed, name) for name in self._arguments.__struct_fields__}

    def spec(self) -> ToolSpec:
        """What a model sees of it."""
        return ToolSpec(name=self.name, description=self.description, schema=flat_schema(self._arguments))

    def record(self) -> ToolRecord:
        """What the registry says of it."""
        return ToolRecord(
            name=self.name, description=self.description, input_schema=self._schema,
            idempotent=self.policy.idempotent, on_unknown=self.policy.on_unknown,
        )  # fmt: skip


def _arguments(tool: Tool[Any, Any], where: str, hints: dict[str, Any]) -> type[Struct]:
    from mesh.agents.tool_context import ToolContext

    fields: list[Any] = []
    for name, parameter in inspect.signature(tool.function).parameters.items():
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise AppError(f"{where} takes *{name}", hint="name every argument: a model must know them")
        kind = hints.get(name, Any)
        if kind is ToolContext:
            tool.takes_context = name
        elif parameter.default is NO_DEFAULT:
            fields.append((name, kind))
        else:
            fields.append((name, kind, _default(parameter.default)))
    try:
        return msgspec.defstruct(tool.name.replace("-", "_"), fields, kw_only=True, forbid_unknown_fields=True)
    except (TypeError, ValueError) as error:
        raise AppError(f"{where}: {error}") from error


def _default(value: Any) -> Any:
    if isinstance(value, list | dict | set):
        return msgspec.field(default_factory=lambda: type(value)(value))
    return value
