"""Tools: functions of an app that tool runners perform, and models may call."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any, Final, Generic, Literal, ParamSpec, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Struct

from mesh.agents.values import as_recorded, restore, schema_of
from mesh.errors import AppError, InvalidInput
from mesh.models.api import ToolSpec
from mesh.models.schema import flat_schema
from schemas.agent import ToolRecord
from schemas.ids import is_name

P = ParamSpec("P")
T_co = TypeVar("T_co", covariant=True)
OnUnknown = Literal["fail", "tell_model"]
NO_DEFAULT: Final = inspect.Parameter.empty


class ToolPolicy(Struct, frozen=True, kw_only=True):
    """How a tool may be made to run.

    `timeout_s` bounds one attempt. A failure that the tool reports is tried again up to `max_attempts` in all, after
    `backoff_s`, doubled each time, or the longer time that a `retry_after_s` of the exception asks for (`ToolFailed`
    has one). A tool that is not `idempotent` is never repeated after its runner died or its time was up;
    `max_concurrent` bounds calls at once in one runner.
    """

    idempotent: bool = False
    timeout_s: float = 60.0
    max_attempts: int = 1
    backoff_s: float = 0.5
    max_concurrent: int | None = None
    on_unknown: OnUnknown = "fail"

    def __post_init__(self) -> None:
        for name, least in (("timeout_s", math.ulp(0.0)), ("backoff_s", 0.0), ("max_attempts", 1)):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and least <= value < math.inf):
                raise AppError(f"{name} of a tool must be {'at least 1' if least == 1 else 'seconds'}, not {value!r}")
        if self.max_concurrent is not None and self.max_concurrent < 1:
            raise AppError(f"max_concurrent of a tool must be at least 1, not {self.max_concurrent!r}")
        if self.on_unknown not in get_args(OnUnknown):
            raise AppError(f"on_unknown of a tool is one of {get_args(OnUnknown)}, not {self.on_unknown!r}")


class Tool(Generic[P, T_co]):
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
        except (NameError, TypeError) as error:
            raise AppError(f"{where} has annotations that cannot be read: {error}") from error
        self.takes_context = ""
        self._arguments = _arguments(self, where, hints)
        self.output_type: Any = hints.get("return", Any)
        self._schema = schema_of(self._arguments, where) or {}
        schema_of(self.output_type, f"{where}, output")

    def __repr__(self) -> str:
        return f"<Tool {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T_co:
        result: T_co = self.function(*args, **kwargs)
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
        """Arguments by name as plain JSON values; raises InvalidInput with the field's path, and TooLarge."""
        plain: dict[str, Any] = as_recorded(arguments, self._arguments, f"what tool '{self.name}' is called with")
        return plain

    def read(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Recorded arguments as the function's annotations want them; raises InvalidInput."""
        try:
            typed = restore(arguments, self._arguments)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"tool '{self.name}': {error}") from error
        return {name: getattr(typed, name) for name in self._arguments.__struct_fields__}

    def spec(self) -> ToolSpec:
        """What a model sees of it."""
        return self._spec

    @cached_property
    def _spec(self) -> ToolSpec:
        return ToolSpec(name=self.name, description=self.description, schema=flat_schema(self._arguments))

    def record(self) -> ToolRecord:
        """What the registry says of it."""
        return ToolRecord(
            name=self.name, description=self.description, input_schema=self._schema,
            idempotent=self.policy.idempotent, on_unknown=self.policy.on_unknown, timeout_s=self.policy.timeout_s,
            max_attempts=self.policy.max_attempts, max_concurrent=self.policy.max_concurrent,
        )  # fmt: skip


def _arguments(tool: Tool[Any, Any], where: str, hints: dict[str, Any]) -> type[Struct]:
    from mesh.agents.tool_context import ToolContext

    fields: list[Any] = []
    for name, parameter in inspect.signature(tool.function).parameters.items():
        if parameter.kind not in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            raise AppError(f"{where} cannot be given `{parameter}` by name", hint="a model names every argument")
        if name not in hints:
            raise AppError(f"{where} does not say what its argument `{name}` is", hint=f"annotate it: `{name}: str`")
        if hints[name] is ToolContext:
            tool.takes_context = name
        elif parameter.default is NO_DEFAULT:
            fields.append((name, hints[name]))
        else:
            fields.append((name, *_with_default(hints[name], parameter.default)))
    try:
        return msgspec.defstruct(tool.name.replace("-", "_"), fields, kw_only=True, forbid_unknown_fields=True)
    except (TypeError, ValueError) as error:
        raise AppError(f"{where}: {error}") from error


def _with_default(kind: Any, value: Any) -> tuple[Any, Any]:
    """A mutable default is new for each call, and the schema shows it all the same."""
    if not isinstance(value, list | dict | set):
        return kind, value
    shown = msgspec.Meta(extra_json_schema={"default": msgspec.to_builtins(value, str_keys=True)})
    return Annotated[kind, shown], msgspec.field(default_factory=lambda: copy.deepcopy(value))
