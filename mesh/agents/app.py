"""An app: agents in one module, served together from one pool."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, Unpack, get_type_hints, overload

from mesh.agents.model_agent import Limits, ModelAgent
from mesh.agents.tools import OnUnknown, Tool, ToolPolicy
from mesh.agents.values import schema_of
from mesh.errors import AppError, InvalidInput
from schemas.agent import AgentRecord
from schemas.ids import is_name

if TYPE_CHECKING:
    from mesh.agents.context import Context
    from mesh.models.api import Model
    from mesh.models.scripted import Rule

Handler = Callable[..., Awaitable[Any]]
P = ParamSpec("P")
T = TypeVar("T")
OnChange = Literal["suspend", "fail"]
NAME_RULE = "1 to 63 of a-z 0-9 _ -, and begin with a letter or digit"


class Agent:
    """A handler under a name; what callers submit tasks to.

    `input_type` and `output_type` are the handler's annotations. Calling it calls the handler, as in a unit test.
    """

    def __init__(
        self, handler: Handler, *, name: str, on_change: OnChange, model_agent: ModelAgent | None = None
    ) -> None:
        where = f"agent '{name}'"
        if not is_name(name):
            raise AppError(f"{where} has no valid name", hint=f"names are {NAME_RULE}; pass @app.agent(name=...)")
        if not inspect.iscoroutinefunction(handler):
            raise AppError(f"{where} is not an async function", hint=f"write `async def {handler.__name__}(ctx, ...)`")
        parameters = list(inspect.signature(handler).parameters.values())
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if not 1 <= len(parameters) <= 2 or any(p.kind not in positional for p in parameters):
            raise AppError(
                f"{where} must take the context and at most one input", hint="put several inputs in one dataclass"
            )
        try:
            hints = get_type_hints(handler, include_extras=True)
        except NameError as error:
            raise AppError(f"{where} has an annotation that cannot be read: {error}") from error
        self.name = name
        self.handler = handler
        self.on_change = on_change
        self.model_agent = model_agent
        self.description = (inspect.getdoc(handler) or "").partition("\n")[0]
        self.takes_input = len(parameters) == 2
        self.input_type: Any = hints.get(parameters[1].name, Any) if self.takes_input else Any
        self.output_type: Any = hints.get("return", Any)
        self._input_schema = schema_of(self.input_type, f"{where}, input")
        self._output_schema = schema_of(self.output_type, f"{where}, output")

    def __repr__(self) -> str:
        return f"<Agent {self.name}>"

    async def __call__(self, ctx: Context, *args: Any) -> Any:
        return await self.handler(ctx, *args)

    def record(self) -> AgentRecord:
        """What the registry says of it."""
        asked = self.model_agent
        return AgentRecord(
            name=self.name, description=self.description, input_schema=self._input_schema,
            output_schema=self._output_schema, model=asked.model if asked else "",
            tools=tuple(tool.name for tool in asked.tools) if asked else (),
        )  # fmt: skip


class Mesh:
    """An app; its name is its pool.

    `version` None is a digest of the app's sources, so that a changed handler is a new version.
    """

    def __init__(self, name: str, *, version: str | None = None, pool: str | None = None) -> None:
        for text in (name, pool or name):
            if not is_name(text):
                raise AppError(f"'{text}' is no valid name of an app or a pool", hint=f"names are {NAME_RULE}")
        self.name = name
        self.pool = pool or name
        self.version = version
        self.agents: dict[str, Agent] = {}
        self.tools: dict[str, Tool[Any, Any]] = {}
        self.scripts: dict[str, Model] = {}

    def __repr__(self) -> str:
        return f"<Mesh {self.name}: {', '.join(self.agents) or 'no agents'}>"

    @overload
    def agent(self, handler: Handler) -> Agent: ...

    @overload
    def agent(self, *, name: str | None = ..., on_change: OnChange = ...) -> Callable[[Handler], Agent]: ...

    def agent(
        self, handler: Handler | None = None, *, name: str | None = None, on_change: OnChange = "suspend"
    ) -> Agent | Callable[[Handler], Agent]:
        """Makes an async function `(ctx, input) -> output` an agent of this app.

        `on_change` says what happens to a task whose log holds other steps than the handler asks for: `suspend` until
        another version of the app is there, or `fail`.

        Raises: AppError for a name that is taken or a signature that cannot be served.
        """

        def register(handler: Handler) -> Agent:
            return self._add(Agent(handler, name=name or handler.__name__, on_change=on_change))

        return register(handler) if handler is not None else register

    def model_agent(
        self,
        name: str,
        *,
        model: str,
        instructions: str = "",
        tools: Sequence[Tool[Any, Any]] = (),
        output_type: Any = None,
        **limits: Unpack[Limits],
    ) -> Agent:
        """Makes an agent of a model (`provider:model`) with instructions and tools of this app.

        Its input is text, or JSON; its output is the text of the final answer, or a validated `output_type`. The
        limits are those of `ModelAgent`.

        Raises: AppError for a name that is taken, tools that this app does not have, or an output type or settings that
        are no JSON.
        """
        for tool in tools:
            if not isinstance(tool, Tool):
                raise AppError(f"agent '{name}' is given {tool!r}, which is no tool", hint="decorate it with @app.tool")
            if self.tools.get(tool.name) is not tool:
                raise AppError(f"agent '{name}' has the tool '{tool.name}', which is none of app '{self.name}'")
        definition = ModelAgent(
            model=model, instructions=instructions, tools=tuple(tools), output_type=output_type, **limits
        )
        try:
            definition.definition()
        except (TypeError, ValueError) as error:
            raise AppError(f"agent '{name}' cannot be described to a model: {error}") from error

        async def handler(ctx: Context, input: Any) -> Any:
            return await definition.answer(ctx, input)

        handler.__doc__ = definition.description or instructions
        handler.__annotations__ = {"input": Any, "return": str if output_type is None else output_type}
        return self._add(Agent(handler, name=name, on_change="suspend", model_agent=definition))

    def scripted_model(self, name: str, rule: Rule) -> str:
        """Adds a model that answers by a rule instead of asking anybody; returns the name to use, `scripted:<name>`.

        Raises: AppError for a name that is taken.
        """
        from mesh.models.scripted import PROVIDER, ScriptedModel

        if name in self.scripts:
            raise AppError(f"app '{self.name}' has two scripted models named '{name}'")
        self.scripts[name] = ScriptedModel(rule)
        return f"{PROVIDER}:{name}"

    def _add(self, agent: Agent) -> Agent:
        if agent.name in self.agents:
            raise AppError(f"app '{self.name}' has two agents named '{agent.name}'")
        self.agents[agent.name] = agent
        return agent

    def find_tool(self, name: str) -> Tool[Any, Any]:
        """A tool of this app; raises InvalidInput with the near names."""
        if name not in self.tools:
            near = difflib.get_close_matches(name, self.tools, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"its tools are: {', '.join(sorted(self.tools)) or 'none'}"
            raise InvalidInput(f"app '{self.name}' has no tool '{name}'", hint=hint)
        return self.tools[name]

    @overload
    def tool(self, function: Callable[P, Coroutine[Any, Any, T]]) -> Tool[P, Coroutine[Any, Any, T]]: ...

    @overload
    def tool(self, function: Callable[P, T]) -> Tool[P, T]: ...

    @overload
    def tool(
        self,
        *,
        name: str | None = ...,
        idempotent: bool = ...,
        timeout_s: float = ...,
        max_attempts: int = ...,
        backoff_s: float = ...,
        max_concurrent: int | None = ...,
        on_unknown: OnUnknown = ...,
    ) -> Callable[[Callable[P, T]], Tool[P, T]]: ...

    def tool(self, function: Callable[..., Any] | None = None, *, name: str | None = None, **policy: Any) -> Any:
        """Makes a function, async or blocking, a tool that runners of this app perform.

        Its schema comes from its signature and docstring; a parameter annotated with `ToolContext` receives the call's
        context. The policy is that of `ToolPolicy`.

        Raises: AppError for a name that is taken, or a signature that a model could not fill.
        """

        def register(function: Callable[..., Any]) -> Tool[..., Any]:
            tool: Tool[..., Any] = Tool(function, name=name or function.__name__, policy=ToolPolicy(**policy))
            if tool.name in self.tools:
                raise AppError(f"app '{self.name}' has two tools named '{tool.name}'")
            self.tools[tool.name] = tool
            return tool

        return register(function) if function is not None else register
